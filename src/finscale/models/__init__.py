"""Floor 1: one config union, one forward contract, one registry; every model counts its own parameters."""
