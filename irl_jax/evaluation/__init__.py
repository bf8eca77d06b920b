"""How well a recovered reward is recovered, and what RLHF with it does: figures over arrays and texts, in NumPy."""
