"""What files hold, for programs: a line for each array."""

import csv
import io
from collections.abc import Sequence
from typing import Any, BinaryIO

from qkvcli.core.inventory import Entry, Range
from qkvcli.formats.json_text import dumped, strict


def write_inspected(entries: Sequence[Entry], stream: BinaryIO, kind: str) -> None:
    r"""The entries as ``kind`` "json", a list of objects, or "csv".

    In CSV a shape is its numbers with blanks between them, and what is not known is empty.

    >>> stream = io.BytesIO()
    >>> write_inspected([Entry("a.npz", "q", (2, 3), "float32")], stream, "csv")
    >>> stream.getvalue().decode().splitlines()
    ['file,name,shape,type,min,max,nan,inf', 'a.npz,q,2 3,float32,,,,']
    """
    facts = [_facts(entry) for entry in entries]
    if kind == "json":
        lines = ",\n ".join(dumped(strict(one)) for one in facts)
        stream.write(f"[{lines}]\n".encode())
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for one in facts:
        shape = " ".join(map(str, one["shape"] or ()))
        writer.writerow([shape if name == "shape" else _cell(one[name]) for name in _COLUMNS])
    stream.write(text.getvalue().encode())


_COLUMNS = ("file", "name", "shape", "type", "min", "max", "nan", "inf")


def _facts(entry: Entry) -> dict[str, Any]:
    found = entry.range or Range()
    facts = {
        "file": entry.file,
        "name": entry.name,
        "shape": None if entry.shape is None else list(entry.shape),
        "type": entry.type,
        "min": found.least,
        "max": found.largest,
        "nan": None if entry.range is None else found.nan,
        "inf": None if entry.range is None else found.inf,
        "rows": entry.rows,
        "columns": entry.columns,
        "fault": entry.fault or None,
    }
    return {name: value for name, value in facts.items() if name in _COLUMNS or value is not None}


def _cell(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value
