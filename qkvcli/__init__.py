"""qkvcli: what attention does to your own query, key and value, step by step.

>>> import qkvcli
>>> steps = qkvcli.attend([[1.0, 0.0]], [[0.0, 1.0], [0.0, 2.0]], [[4.0, 0.0], [0.0, 8.0]])
>>> steps.output
array([[2., 4.]])
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qkvcli.core.api import attend, output, scores, softmax

__version__ = "0.1.0"
__all__ = ["__version__", "attend", "output", "scores", "softmax"]


def __getattr__(name: str) -> Any:
    """Import NumPy and the core when they are first used, not before: `--version` is quick."""
    if name not in __all__:
        raise AttributeError(f"module 'qkvcli' has no attribute {name!r}")
    from qkvcli.core import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return __all__
