"""Where bars come from: one record per kind of source, each with ``load``."""
