"""Blur and sharpening along the residual stream."""
