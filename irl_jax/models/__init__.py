"""Flax architectures and heads; loading, comparing and exporting pretrained models."""
