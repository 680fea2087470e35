"""Logit lens."""
