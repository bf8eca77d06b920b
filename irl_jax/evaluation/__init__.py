"""What a recovered reward is worth, and what RLHF with it does: metrics over arrays and texts."""
