"""Numbers in, numbers out: attention on NumPy arrays; no files, no printing."""
