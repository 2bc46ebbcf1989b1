"""The layers all models share: attention, norms, feed-forward, positions, patching."""
