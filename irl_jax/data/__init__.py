"""Texts: their sources, and their conversion to prompts, splits, token ids and batches."""
