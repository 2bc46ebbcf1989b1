"""Floor 5: figures, tables and the one-file HTML report of a scaling study. No torch, no kedro."""
