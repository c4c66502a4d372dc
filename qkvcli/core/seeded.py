"""Q, K and V from a random seed, and the article's own example."""

import numpy as np

from qkvcli.core.operands import Operand

ARTICLE_SEED = 42
ARTICLE_TOKENS = ("The", "cat", "sat", "on", "mat")


def seeded(
    seed: int,
    length: int = 5,
    dim: int = 64,
    key_length: int | None = None,
    value_dim: int | None = None,
    key_dim: int | None = None,
) -> dict[str, Operand]:
    """Q (length, dim), K (key_length, key_dim), V (key_length, value_dim), uniform on [0, 1).

    Drawn in that order from the legacy generator, whose numbers NumPy guarantees never to change:

    >>> np.random.seed(42)
    >>> bool((np.random.rand(5, 64) == seeded(42)["query"].array).all())
    True
    """
    key_length = length if key_length is None else key_length
    key_dim = dim if key_dim is None else key_dim
    value_dim = key_dim if value_dim is None else value_dim
    source = np.random.RandomState(seed)
    shapes = {
        "query": (length, dim),
        "key": (key_length, key_dim),
        "value": (key_length, value_dim),
    }
    try:
        return {
            name: Operand(source.rand(*shape), name, origin=f"seed {seed}")
            for name, shape in shapes.items()
        }
    except ValueError:  # NumPy's word for more than any machine could address
        raise MemoryError from None
