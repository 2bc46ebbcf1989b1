"""Floor 2: targets, splits, standardising and windows; only ``windows.batches`` knows torch."""
