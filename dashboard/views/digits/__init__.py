"""Training live on the digits."""
