"""All heads."""
