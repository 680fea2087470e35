"""Saliency with numbers."""
