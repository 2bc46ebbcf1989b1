"""Floor 2: which architectures fit a budget, what they cost, and the batch that fits a device."""
