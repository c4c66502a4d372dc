"""What a table's title says: what was computed, how, and with which shapes."""

import re
from dataclasses import dataclass

from qkvcli.core.steps import Step


@dataclass(frozen=True)
class Title:
    """The three parts of "scores = Q·Kᵀ   (5, 64)·(64, 5) → (5, 5)"."""

    name: str
    formula: str
    shapes: str

    def __str__(self) -> str:
        return f"{self.name} = {self.formula}   {self.shapes}"


def title(step: Step) -> Title:
    """The title of a step.

    >>> import numpy as np
    >>> str(title(Step("scores", "Q·Kᵀ", ((5, 64), (64, 5)), np.ones((5, 5)))))
    'scores = Q·Kᵀ   (5, 64)·(64, 5) → (5, 5)'
    """
    signs = re.findall(r"·| \+ ", step.formula)[: len(step.operands) - 1]
    parts = zip(map(str, step.operands), [*signs, ""], strict=False)
    shapes = "".join(shape + sign for shape, sign in parts)
    return Title(step.name, step.formula, f"{shapes} → {step.shape}")


def matrix_title(index: tuple[int, ...], heads: bool = True) -> str:
    """Which of a step's matrices one is: the last leading axis counts heads, if it has them.

    >>> matrix_title((3,)), matrix_title((0, 3)), matrix_title((1, 0), heads=False)
    ('head 3', 'batch 0, head 3', 'batch 1 0')
    """
    *batches, head = index if heads else (*index, 0)
    named = [f"batch {' '.join(map(str, batches))}"] if batches else []
    return ", ".join([*named, *([f"head {head}"] if heads else [])])
