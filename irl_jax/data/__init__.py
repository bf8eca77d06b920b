"""Texts: where they come from, how they become prompts, splits, token ids and batches."""
