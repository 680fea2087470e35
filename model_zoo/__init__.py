"""Models: what there is, how each is loaded, and what each provides."""
