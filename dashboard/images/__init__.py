"""What can be shown: sample photos, scenes, uploads, sets of them."""
