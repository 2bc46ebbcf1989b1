"""Floor 4: search architecture and training parameters of one cell; one driver asks, tells and writes."""
