"""Floor 1: scores of forecasts and their significance. No torch."""
