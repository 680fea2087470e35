"""Patch correspondence."""
