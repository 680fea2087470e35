"""Attention distance."""
