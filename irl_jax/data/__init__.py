"""Texts: their sources, and the way to prompts, splits, token ids and batches."""
