"""Inverse reinforcement learning: a reward recovered from demonstrations of two models."""
