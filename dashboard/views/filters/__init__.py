"""First filters."""
