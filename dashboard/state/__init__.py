"""What is chosen, and the link that carries it."""
