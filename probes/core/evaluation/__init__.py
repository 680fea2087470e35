"""Held-out figures of a model: ``python -m model_zoo evaluate``."""
