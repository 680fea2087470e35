"""Sanity checks."""
