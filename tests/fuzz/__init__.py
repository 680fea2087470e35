"""Hostile input, seeded: `python -m tests.fuzz N`.

Every module here has ``cases(seed, count, folder)``, which yields names and calls, and ``EXPECTED``, the
exceptions that a refusal may be. Whatever else a call raises is foreign: an error of ours.
"""
