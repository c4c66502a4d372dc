"""qkvcli: what attention does to your own query, key and value, step by step.

>>> import qkvcli
>>> steps = qkvcli.attend([[1.0, 0.0]], [[0.0, 1.0], [0.0, 2.0]], [[4.0, 0.0], [0.0, 8.0]])
>>> steps.output
array([[2., 4.]])
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qkvcli.api import Explanation, Page, Steps, attend, attention, output, scores, softmax
    from qkvcli.comparing import Comparison, compare
    from qkvcli.core.config import AttentionConfig
    from qkvcli.core.steps import Step
    from qkvcli.errors import (
        DataError,
        DtypeError,
        QkvError,
        ShapeError,
        UsageError,
        WriteError,
    )

__version__ = "0.1.0"
__all__ = [
    "AttentionConfig",
    "Comparison",
    "DataError",
    "DtypeError",
    "Explanation",
    "Page",
    "QkvError",
    "ShapeError",
    "Step",
    "Steps",
    "UsageError",
    "WriteError",
    "__version__",
    "attend",
    "attention",
    "compare",
    "output",
    "scores",
    "softmax",
]
_ELSEWHERE = {
    "AttentionConfig": "qkvcli.core.config",
    "Comparison": "qkvcli.comparing",
    "Step": "qkvcli.core.steps",
    "compare": "qkvcli.comparing",
}


def __getattr__(name: str) -> Any:
    """Import NumPy and the core when they are first used, not before: `--version` is quick."""
    if name not in __all__:
        raise AttributeError(f"module 'qkvcli' has no attribute {name!r}")
    home = "qkvcli.errors" if name.endswith("Error") else _ELSEWHERE.get(name, "qkvcli.api")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return __all__
