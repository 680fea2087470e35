"""Embeddings of images."""
