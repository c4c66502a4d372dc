"""A search for what no test thought of: ``python -m tests.fuzz``."""
