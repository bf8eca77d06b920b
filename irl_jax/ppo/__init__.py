"""Proximal policy optimisation of a language model on any reward of texts."""
