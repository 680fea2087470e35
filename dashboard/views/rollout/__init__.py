"""Attention rollout."""
