"""Runs over many images: decoding in processes of their own, shards on disk, and what is made of them at the end."""
