"""Floor 3: train one run of one cell, resume it bit for bit, and score its best weights."""
