"""Layer similarity."""
