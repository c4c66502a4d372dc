"""NumPy's own files, written part by part."""

import zipfile
from collections.abc import Sequence
from typing import IO, BinaryIO

import numpy as np

from qkvcli.core.steps import Written


def write_npy(steps: Sequence[Written], stream: BinaryIO, digits: int | None) -> None:
    """The last step's array, with every digit."""
    _write(steps[-1], stream)


def write_npz(steps: Sequence[Written], stream: BinaryIO, digits: int | None) -> None:
    """Every step's array by its name, with every digit."""
    with zipfile.ZipFile(stream, "w") as archive:
        for step in steps:
            member = zipfile.ZipInfo(f"{step.name}.npy")  # its date is always the same
            with archive.open(member, "w", force_zip64=True) as inside:
                _write(step, inside)


def _write(step: Written, stream: IO[bytes]) -> None:
    header = {
        "descr": np.lib.format.dtype_to_descr(step.dtype),
        "fortran_order": False,
        "shape": step.shape,
    }
    np.lib.format.write_array_header_1_0(stream, header)
    for part in step.parts():
        stream.write(np.ascontiguousarray(part).data.cast("B") if part.size else b"")
