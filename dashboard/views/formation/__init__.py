"""How attention forms."""
