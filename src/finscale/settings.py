"""Project settings: the doors through which Kedro finds our hooks, resolvers and configuration."""

from finscale.runtime.hooks import ProjectHooks
from finscale.runtime.resolvers import RESOLVERS
from finscale.runtime.trackers import TrackingHooks

HOOKS = (ProjectHooks(), TrackingHooks())

CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "merge_strategy": {"parameters": "soft", "globals": "soft", "mlflow": "soft"},
    "custom_resolvers": RESOLVERS,
}
