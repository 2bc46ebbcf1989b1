"""Project settings: the doors through which Kedro finds our hooks, resolvers and configuration."""

import warnings

from finscale.runtime.hooks import ProjectHooks
from finscale.runtime.resolvers import RESOLVERS
from finscale.runtime.trackers import TrackingHooks

# Kedro and kedro-mlflow call a function that OmegaConf is renaming
warnings.filterwarnings("ignore", message=r"register_new_resolver\(\)", category=UserWarning)
warnings.filterwarnings("ignore", message=".*Add type hints to the `predict` method", category=UserWarning)

# our TrackingHooks is kedro-mlflow's hook with better manners; its plain form must not run beside it
DISABLE_HOOKS_FOR_PLUGINS = ("kedro_mlflow",)
HOOKS = (ProjectHooks(), TrackingHooks())

CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "merge_strategy": {"parameters": "soft", "globals": "soft", "mlflow": "soft"},
    "custom_resolvers": RESOLVERS,
    "config_patterns": {"mlflow": ["mlflow*", "mlflow*/**", "**/mlflow*"]},
}
