"""Floor 1: canonical bars and the catalogue of causal features. No torch."""
