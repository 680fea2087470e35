"""Training of small models: supervised, distilled, DINO and masked autoencoding, on scenes, digits or a folder."""
