"""``python -m qkvcli``: the same program as ``qkvcli``."""

from qkvcli.cli import main

if __name__ == "__main__":  # a worker's process imports what has started it
    main()
