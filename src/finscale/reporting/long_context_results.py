"""Everything that one long-context evaluation left behind, under the names that a reader sees."""

from dataclasses import dataclass
from typing import Self

import pandas as pd

from finscale.longcontext.config import LongContextConfig
from finscale.longcontext.verdict import Verdict

__all__ = ["LongContextResults"]


@dataclass(frozen=True, eq=False)
class LongContextResults:
    """The tables of a block and its verdict.

    Attributes
    ----------
    verdict : Verdict
        Gates and sentences.
    rows : DataFrame
        Of `finscale.longcontext.rows.rows_table`; a mode whose weights were tuned is called so.
    system : DataFrame
        Of `finscale.longcontext.system.system_table`, or empty.
    attention, losses, positions : DataFrame
        Of the probes of the same names in `finscale.longcontext`; empty for a checkpoint.
    note : str
        What has to be known of the rows; empty where nothing does.
    """

    verdict: Verdict
    rows: pd.DataFrame
    system: pd.DataFrame
    attention: pd.DataFrame
    losses: pd.DataFrame
    positions: pd.DataFrame
    note: str

    @classmethod
    def of(
        cls, config: LongContextConfig, *, verdict: Verdict, rows: pd.DataFrame, **others: pd.DataFrame
    ) -> Self:
        """Name the modes of a block as a reader has to see them; ``others`` are the further tables.

        What was streamed was not tuned: weights do not move the cost.
        """
        shown = {mode: f"{mode} (tuned)" for mode in config.modes if config.tuning}
        gates = tuple(
            gate.model_copy(update={"mode": shown.get(gate.mode, gate.mode)}) for gate in verdict.gates
        )
        return cls(
            verdict=verdict.model_copy(update={"gates": gates}),
            rows=rows.assign(mode=rows["mode"].replace(shown)),
            note=_tuning_note(config),
            **others,
        )


def _tuning_note(config: LongContextConfig) -> str:
    if config.tuning is None:
        return ""
    tuning, text = config.tuning, "samples of the tasks" if config.tuning.text_file is None else "a text"
    return (
        f"Rows marked (tuned) were fine-tuned on {text} before they were asked: {tuning.n_steps} steps of "
        f"{tuning.batch_size} x {tuning.length} tokens, each mode from the checkpoint's own weights."
    )
