"""Floor 6: Kedro datasets, the doors between files and tables."""
