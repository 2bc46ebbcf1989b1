"""Configuration as it will run: every reader of conf (a run, kedro viz, a notebook) sees it resolved."""

from pathlib import Path
from typing import Any

from kedro.config import OmegaConfigLoader
from omegaconf.errors import OmegaConfBaseException

from finscale.runtime.definition import check_runtime_params, group, resolve
from finscale.runtime.provenance import commit_of
from finscale.training.run_spec import RunSpec, read_run_spec

__all__ = ["FinscaleConfigLoader"]

_BARS = "bars_"


class FinscaleConfigLoader(OmegaConfigLoader):
    """OmegaConf files; parameters are validated all at once, ``bars`` is bound to the experiment's source."""

    def __init__(self, *args: Any, runtime_params: dict[str, Any] | None = None, **kwargs: Any) -> None:
        check_runtime_params(runtime_params or {})
        self._run_spec = _named_run_spec(runtime_params or {})
        self._resolved: dict[str, dict[str, Any]] = {}
        if self._run_spec is not None:
            spec = self._run_spec
            cell = {"experiment": spec.experiment.name, "budget": spec.budget, "horizon": spec.horizon}
            runtime_params = {**(runtime_params or {}), **cell}
        super().__init__(*args, runtime_params=runtime_params, **kwargs)

    def __getitem__(self, key: str) -> dict[str, Any]:
        """Return a resolved configuration; parameters and catalog are resolved once."""
        resolvers = {"parameters": self._parameters, "catalog": self._catalog}
        if key in self or key not in resolvers:
            return super().__getitem__(key)
        if key not in self._resolved:
            self._resolved[key] = resolvers[key]()
        return self._resolved[key]

    def _parameters(self) -> dict[str, Any]:
        parameters = resolve(
            super().__getitem__("parameters"),
            sources=self._sources(),
            run_spec=self._run_spec,
            typed=self.runtime_params,
        )
        commit, dirty = commit_of(Path(self.conf_source).parent)
        environment = self.env or self.default_run_env
        return {**parameters, "provenance": {"commit": commit, "dirty": dirty, "environment": environment}}

    def _sources(self) -> list[str] | None:
        """Names of the bars in the catalog; None when the catalog itself waits for a valid cell."""
        try:
            entries = super().__getitem__("catalog")
        except OmegaConfBaseException:
            return None
        return [name.removeprefix(_BARS) for name in entries if name.startswith(_BARS)]

    def _catalog(self) -> dict[str, Any]:
        """Bind ``bars`` to the entry that the experiment names, or to the user's file."""
        data = group(self["parameters"], "definition").data
        entries = super().__getitem__("catalog")
        file = {"source": {"kind": "file", "path": data.path}}
        bound = file if data.source == "file" else entries[_BARS + data.source]
        return {**entries, "bars": {**entries["bars"], **bound}}


def _named_run_spec(runtime_params: dict[str, Any]) -> RunSpec | None:
    """The run that ``run_spec=<path>`` names: its experiment and cell outrank what else was typed."""
    path = runtime_params.get("run_spec")
    return None if path is None else read_run_spec(Path(str(path)))
