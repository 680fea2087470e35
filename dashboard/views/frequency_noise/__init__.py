"""Noise of one spatial frequency."""
