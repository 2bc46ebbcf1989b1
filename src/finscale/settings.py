"""Project settings: the doors through which Kedro finds our hooks, resolvers and configuration."""

from finscale.runtime.config_loader import FinscaleConfigLoader
from finscale.runtime.hooks import ProjectHooks
from finscale.runtime.resolvers import RESOLVERS
from finscale.runtime.trackers import TrackingHooks

# our TrackingHooks is kedro-mlflow's hook with better manners; its plain form must not run beside it
DISABLE_HOOKS_FOR_PLUGINS = ("kedro_mlflow",)
HOOKS = (ProjectHooks(), TrackingHooks())

CONFIG_LOADER_CLASS = FinscaleConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "merge_strategy": {"parameters": "soft", "globals": "soft", "mlflow": "soft"},
    "custom_resolvers": RESOLVERS,
    "config_patterns": {"mlflow": ["mlflow*", "mlflow*/**", "**/mlflow*"]},
}
