"""Evaluation of recovered rewards, and of RLHF with them: metrics over arrays and texts."""
