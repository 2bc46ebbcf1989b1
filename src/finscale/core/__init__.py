"""Floor 0: what every room shares (budgets, records, errors, seeds, hashes, atomic files). No torch."""
