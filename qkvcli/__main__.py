"""``python -m qkvcli``: the same program as ``qkvcli``."""

from qkvcli.cli import main

main()
