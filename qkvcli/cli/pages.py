"""The pages of help: the Markdown files in ``qkvcli/help``, a topic each."""

from pathlib import Path
from typing import NamedTuple

_FOLDER = Path(__file__).parent.parent / "help"


class Page(NamedTuple):
    """A page: its topic, and the file that it stands in."""

    name: str
    path: Path

    @property
    def text(self) -> str:
        """The page, as Markdown."""
        return self.path.read_text(encoding="utf-8")

    @property
    def title(self) -> str:
        """Its first heading."""
        lines = self.text.splitlines()
        return next(line.removeprefix("# ") for line in lines if line.startswith("# "))


def pages() -> list[Page]:
    """All pages, in the order of their names; a new file is a new topic."""
    return [Page(path.stem, path) for path in sorted(_FOLDER.glob("*.md"))]
