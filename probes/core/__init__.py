"""What every probe stands on: capture, the fold and its runner, the command line."""
