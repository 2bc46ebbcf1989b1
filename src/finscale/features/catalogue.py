"""The catalogue of features: one row each; a feature set is a list of their names."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

from finscale.core.errors import Fault, raise_faults, suggest
from finscale.features import indicators as ta
from finscale.features import intraday, order_flow, scale_free, vix, volatility, volume
from finscale.features.arithmetic import Vector
from finscale.features.spec import FeatureSpec
from finscale.features.weeks import on_completed_weeks

__all__ = ["CATALOGUE", "FeatureSpec", "feature_names", "known_features", "readable_sets"]

_OHLC = ("open", "high", "low", "close")
_HLC = ("high", "low", "close")
_HLCV = (*_HLC, "volume")
_CV = ("close", "volume")
_HL = ("high", "low")
_V = ("volume",)
_VIX = ("vix",)
_DAY = ("session", "slot")

_RSI = partial(ta.rsi, period=14)
_STOCHRSI = partial(ta.stochrsi, period=14, window=5)
_MACD = partial(ta.macd_line, fast=12, slow=26)
_MACD_SIGNAL = partial(ta.macd_signal, fast=12, slow=26, signal=9)
_MACD_HISTOGRAM = partial(ta.macd_histogram, fast=12, slow=26, signal=9)
_ATR = partial(ta.atr, period=14)

_WILDER = "Wilder 1978"
_STOCHRSI_PAPER = "Chande and Kroll 1994"
_RETURNS = "log return of closes"
_REALISED = "Andersen and Bollerslev 1998"
_APPEL = "Appel 1979"
_VIX_PAPER = "Cboe; Whaley 2009"

_PERCENT, _SHARE, _SIGN = (0.0, 100.0), (0.0, 1.0), (-1.0, 1.0)


def _column(name: str) -> FeatureSpec:
    family = "volume" if name == "volume" else "price"
    return FeatureSpec(name, partial(ta.bar_column, column=name), 0, family, "the bar itself", (name,))


def _dema(n: int) -> FeatureSpec:
    return FeatureSpec(f"dema_{n}", partial(ta.dema, period=n), 2 * (n - 1), "trend", "Mulloy 1994")


def _sma(n: int) -> FeatureSpec:
    return FeatureSpec(f"sma_{n}", partial(ta.sma, period=n), n - 1, "trend", "moving average of closes")


def _ema(n: int) -> FeatureSpec:
    return FeatureSpec(f"ema_{n}", partial(ta.ema, period=n), n - 1, "trend", "Roberts 1959")


def _return(n: int) -> FeatureSpec:
    return FeatureSpec(f"return_{n}", partial(scale_free.log_return, period=n), n, "return", _RETURNS)


def _roc(n: int) -> FeatureSpec:
    return FeatureSpec(f"roc_{n}", partial(ta.roc, period=n), n, "momentum", "TA-Lib ROC, percent")


def _realised_vol(n: int) -> FeatureSpec:
    function = partial(volatility.realised_vol, period=n)
    return FeatureSpec(f"realised_vol_{n}", function, n, "volatility", _REALISED)


def _distance_to_sma(n: int) -> FeatureSpec:
    function = partial(scale_free.distance_to_sma, period=n)
    return FeatureSpec(f"distance_to_sma_{n}", function, n - 1, "trend", "close over its moving average")


def _ema_slope(n: int) -> FeatureSpec:
    function = partial(scale_free.over_close, indicator=partial(scale_free.ema_slope, period=n))
    return FeatureSpec(f"ema_slope_{n}", function, n, "trend", "Roberts 1959, last change over close")


def _ema_dev(n: int) -> FeatureSpec:
    function = partial(scale_free.distance_to_ema, period=n)
    return FeatureSpec(f"ema_dev_{n}", function, n - 1, "trend", "Roberts 1959, close over it")


def _band(name: str, function: Callable[..., Vector]) -> FeatureSpec:
    return FeatureSpec(name, partial(function, period=20, n_sigma=2.0), 19, "volatility", "Bollinger 2001")


def _to_close(name: str, indicator: ta.Indicator, lookback: int, family: str, source: str) -> FeatureSpec:
    function = partial(scale_free.over_close, indicator=indicator)
    return FeatureSpec(f"{name}_to_close", function, lookback, family, f"{source}, over close")


_ROWS = (
    *(_column(name) for name in (*_OHLC, "volume")),
    # trend
    *(_dema(n) for n in (9, 10, 20, 25, 90)),
    *(_sma(n) for n in (12, 50, 100, 200)),
    *(_ema(n) for n in (9, 21)),
    *(_distance_to_sma(n) for n in (10, 50)),
    *(_ema_slope(n) for n in (9, 21, 50)),
    *(_ema_dev(n) for n in (9, 21, 50)),
    FeatureSpec("macd_line", _MACD, 25, "trend", _APPEL),
    FeatureSpec("macd_signal", _MACD_SIGNAL, 33, "trend", _APPEL),
    _to_close("macd_line", _MACD, 25, "trend", _APPEL),
    _to_close("macd_signal", _MACD_SIGNAL, 33, "trend", _APPEL),
    _to_close("macd_histogram", _MACD_HISTOGRAM, 33, "trend", "Aspray 1986"),
    FeatureSpec("adx_14", partial(ta.adx, period=14), 27, "trend", _WILDER, _HLC, bounds=_PERCENT),
    # momentum
    *(_return(n) for n in (1, 2, 5, 10, 20)),
    *(_roc(n) for n in (5, 10, 20)),
    FeatureSpec("rsi_14", _RSI, 14, "momentum", _WILDER, bounds=_PERCENT),
    FeatureSpec(
        "rsi_14_weekly",
        partial(on_completed_weeks, indicator=_RSI),
        14,
        "momentum",
        f"{_WILDER}, on completed weeks",
        clock="week",
        bounds=_PERCENT,
    ),
    FeatureSpec(
        "stochrsi", _STOCHRSI, 18, "momentum", f"{_STOCHRSI_PAPER}, %K of RSI 14 over 5", bounds=_PERCENT
    ),
    FeatureSpec(
        "stochrsi_weekly",
        partial(on_completed_weeks, indicator=_STOCHRSI),
        18,
        "momentum",
        f"{_STOCHRSI_PAPER}, on completed weeks",
        clock="week",
        bounds=_PERCENT,
    ),
    FeatureSpec(
        "stochastic_14",
        partial(ta.stochastic, period=14),
        13,
        "momentum",
        "Lane 1984, %K",
        _HLC,
        bounds=_PERCENT,
    ),
    FeatureSpec("cci_20", partial(ta.cci, period=20), 19, "momentum", "Lambert 1980", _HLC),
    # volatility
    FeatureSpec("atr_14", _ATR, 14, "volatility", _WILDER, _HLC),
    FeatureSpec(
        "atr_14_to_close",
        partial(scale_free.over_close, indicator=_ATR),
        14,
        "volatility",
        f"{_WILDER}, over close",
        _HLC,
    ),
    _band("bb_percent_b", ta.bb_percent_b),
    _band("bb_width", ta.bb_width),
    _band("bb_upper", ta.bb_upper),
    _band("bb_middle", ta.bb_middle),
    _band("bb_lower", ta.bb_lower),
    FeatureSpec("log_range", scale_free.log_range, 0, "volatility", "ln(high / low); Parkinson 1980", _HL),
    FeatureSpec(
        "close_location",
        scale_free.close_location,
        0,
        "momentum",
        "place of the close in its bar",
        _HLC,
        bounds=_SHARE,
    ),
    *(_realised_vol(n) for n in (5, 12, 20, 36, 72)),
    FeatureSpec(
        "ewma_vol",
        partial(volatility.ewma_vol, decay=0.94, min_bars=20),
        20,
        "volatility",
        "RiskMetrics 1996",
    ),
    FeatureSpec(
        "parkinson_vol_20",
        partial(volatility.parkinson_vol, period=20),
        19,
        "volatility",
        "Parkinson 1980",
        _HL,
    ),
    FeatureSpec(
        "garman_klass_vol", volatility.garman_klass_vol, 0, "volatility", "Garman and Klass 1980, root", _OHLC
    ),
    # volume
    FeatureSpec("obv", volume.obv, 0, "volume", "Granville 1963", _CV),
    FeatureSpec("adosc", partial(volume.adosc, fast=3, slow=10), 9, "volume", "Chaikin", _HLCV),
    FeatureSpec("vwap_20", partial(volume.vwap, period=20), 19, "volume", "mean price by volume", _HLCV),
    FeatureSpec(
        "mfi_14",
        partial(volume.mfi, period=14),
        14,
        "volume",
        "Quong and Soudack 1989",
        _HLCV,
        bounds=_PERCENT,
    ),
    FeatureSpec("log_volume", volume.log_volume, 0, "volume", "ln(1 + volume)", _V),
    FeatureSpec("dollar_volume", volume.dollar_volume, 0, "volume", "close times volume", _CV),
    FeatureSpec(
        "volume_ma_ratio",
        partial(volume.volume_ma_ratio, period=20),
        19,
        "volume",
        "volume over its mean",
        _V,
    ),
    FeatureSpec(
        "volume_zscore_20", partial(volume.volume_zscore, period=20), 19, "volume", "standard score", _V
    ),
    FeatureSpec("amihud_12", partial(volume.amihud, period=12), 12, "liquidity", "Amihud 2002", _CV),
    # the trading day
    FeatureSpec(
        "vwap_session",
        intraday.vwap_session,
        0,
        "volume",
        "Berkowitz, Logue and Noser 1988, from the session's start",
        (*_HLCV, "session"),
    ),
    FeatureSpec(
        "vwap_distance",
        intraday.vwap_distance,
        0,
        "volume",
        "Berkowitz, Logue and Noser 1988, close over it",
        (*_HLCV, "session"),
    ),
    FeatureSpec(
        "relative_volume",
        partial(intraday.relative_volume, n_sessions=20),
        1,
        "volume",
        "session's volume so far over that of earlier sessions by the same slot",
        (*_V, *_DAY),
        clock="session",
    ),
    # proxies: what trades and quotes would show, guessed from bars
    FeatureSpec(
        "orderflow_imbalance",
        partial(order_flow.orderflow_imbalance, period=12, sigma_period=50),
        61,
        "proxy",
        "proxy of signed volume: bulk volume classification, Easley, Lopez de Prado and O'Hara 2012",
        _CV,
        bounds=_SIGN,
    ),
    FeatureSpec(
        "trade_intensity",
        partial(intraday.trade_intensity, n_sessions=20),
        1,
        "proxy",
        "proxy of the arrival of trades (Engle and Russell 1998): volume over its time-of-day mean",
        (*_V, *_DAY),
        clock="session",
    ),
    FeatureSpec(
        "tick_rule",
        order_flow.tick_rule,
        1,
        "proxy",
        "proxy of the last trade's side: Lee and Ready 1991",
        bounds=_SIGN,
    ),
    FeatureSpec(
        "spread_proxy",
        partial(order_flow.spread_proxy, period=12),
        12,
        "proxy",
        "proxy of the bid-ask spread: Corwin and Schultz 2012",
        _HLC,
    ),
    # VIX
    FeatureSpec("vix_close", partial(ta.bar_column, column="vix"), 0, "vix", _VIX_PAPER, _VIX),
    *(
        FeatureSpec(f"vix_sma_{n}", partial(vix.vix_sma, period=n), n - 1, "vix", _VIX_PAPER, _VIX)
        for n in (10, 20)
    ),
    FeatureSpec(
        "vix_percentile_60d",
        partial(vix.vix_percentile, period=60),
        59,
        "vix",
        _VIX_PAPER,
        _VIX,
        bounds=_SHARE,
    ),
    FeatureSpec("vix_zscore_20d", partial(vix.vix_zscore, period=20), 19, "vix", _VIX_PAPER, _VIX),
    FeatureSpec(
        "vix_regime", vix.vix_regime, 0, "vix", f"{_VIX_PAPER}; bounds 15 and 25", _VIX, bounds=(0.0, 2.0)
    ),
    *(
        FeatureSpec(f"vix_change_{n}d", partial(vix.vix_change, period=n), n, "vix", _VIX_PAPER, _VIX)
        for n in (1, 5)
    ),
)

CATALOGUE: dict[str, FeatureSpec] = {row.name: row for row in _ROWS}


def known_features(names: Sequence[str]) -> tuple[FeatureSpec, ...]:
    """Look up features by name, in order.

    Raises
    ------
    FinscaleError
        For an empty list, repeated names, and every unknown name with its nearest match.
    """
    if not names:
        raise Fault("feature_set", "name at least one feature", list(names), "try feature_set: a25")
    faults = [
        Fault("feature", "be in the catalogue", name, suggest(name, CATALOGUE))
        for name in names
        if name not in CATALOGUE
    ]
    repeated = sorted({name for name in names if list(names).count(name) > 1})
    if repeated:
        faults.append(Fault("feature_set", "name each feature once", repeated, "remove the repeats"))
    raise_faults(faults)
    return tuple(CATALOGUE[name] for name in names)


def feature_names(feature_sets: Mapping[str, Sequence[str]], feature_set: str) -> tuple[str, ...]:
    """Return the features of a named set, each of them known.

    Raises
    ------
    FinscaleError
        For an unknown set or an unknown feature in it.
    """
    if feature_set not in feature_sets:
        remedy = suggest(feature_set, feature_sets)
        raise Fault("data.feature_set", "be a set listed under feature_sets", feature_set, remedy)
    return tuple(spec.name for spec in known_features(feature_sets[feature_set]))


def readable_sets(feature_sets: Mapping[str, Sequence[str]], columns: Collection[str]) -> tuple[str, ...]:
    """Return the sets that bars with these columns can compute, in the order given.

    A set without features is for tables without bars, and is none of them.

    Examples
    --------
    >>> sets = {"a": ["close", "obv"], "b": ["close", "rsi_14"]}
    >>> readable_sets(sets, ["open", "high", "low", "close"])
    ('b',)
    """
    return tuple(
        feature_set
        for feature_set, names in feature_sets.items()
        if names and all(name in CATALOGUE and set(CATALOGUE[name].reads) <= set(columns) for name in names)
    )
