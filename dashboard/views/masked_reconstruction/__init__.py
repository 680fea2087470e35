"""What a masked autoencoder fills in."""
