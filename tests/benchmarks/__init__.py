"""How fast and how large: ``python -m tests.benchmarks`` prints the tables of the documents.

Everything is measured in one run on one machine, in turn with what it is compared with,
and printed as a ratio of medians. PyTorch and Dask are used where they are installed.
"""
