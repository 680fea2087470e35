"""Token norms."""
