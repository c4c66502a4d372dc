"""Somebody else's numbers held against those that are computed here. `comparison` is the whole."""
