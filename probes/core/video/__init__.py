"""Films of what models attend to: frames in, maps on disk, a film out; memory does not grow with the clip's length."""
