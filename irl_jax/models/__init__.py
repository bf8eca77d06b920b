"""Architectures in Flax, their heads, and the models that people have: read, compared, exported."""
