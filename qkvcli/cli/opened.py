"""The files that a command line names, each opened once for all that is taken from it."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from qkvcli.cli.environment import Environment
from qkvcli.cli.examples import samples
from qkvcli.core.operands import Operand
from qkvcli.errors import DataError, UsageError
from qkvcli.formats.address import Address
from qkvcli.formats.files import (
    address_of,
    among,
    format_of,
    in_folder,
    is_folder,
    member_at,
    missing_from,
    read_document,
    taken,
)
from qkvcli.formats.members import Document, choose, fitting
from qkvcli.formats.source import Source
from qkvcli.formats.text.labels import GUESSED, Labelling

if TYPE_CHECKING:  # few lines compare
    from qkvcli.core.compare.expected import Expected

_Found = TypeVar("_Found", "Operand", "Expected")


def check_labelling(asked: Labelling, sources: Iterable[Source]) -> None:
    """Raise UsageError where a person says what is labels, and none of the sources has text."""
    told = (source for source in sources if source.labelling.said)
    if asked.said and not any(format_of(source).delimiter is not None for source in told):
        raise UsageError(f"{asked.said} is for CSV, TSV and white space; no such file is read here")


class Opened:
    """Files and standard input, as a command line names them: ``PATH[:MEMBER][SLICE]``.

    How a person should know that text was read is noted. ``example`` names the one that files
    among the samples belong to; of the others, ``labelling`` says what is labels.
    """

    def __init__(
        self,
        environment: Environment,
        example: str | None = None,
        labelling: Labelling = GUESSED,
    ) -> None:
        self.environment, self.example, self.labelling = environment, example, labelling
        self._sources: dict[Path, Source] = {}
        self._documents: dict[Path, Document] = {}

    def source(self, path: Path) -> Source:
        """A file or, where the path is ``-``, standard input.

        Raises UsageError where standard input was read before.
        """
        if path not in self._sources or str(path) == "-":
            self._sources[path] = self._made(path)
        return self._sources[path]

    def _made(self, path: Path) -> Source:
        if str(path) == "-":
            data = self.environment.take_input()
            return Source("standard input", data=data, labelling=self.labelling)
        if self.example is not None and path.is_relative_to(samples()):
            return Source(f"example {self.example}", path=path)
        return Source(str(path), path=path, labelling=self.labelling)

    @property
    def sources(self) -> tuple[Source, ...]:
        """All that were opened."""
        return tuple(self._sources.values())

    def document(self, path: Path) -> tuple[Document, str]:
        """What a file holds, and its name in an error. Raises as `source` does, and DataError."""
        if path not in self._documents or str(path) == "-":
            self._documents[path] = read_document(self.source(path))
        return self._documents[path], self._sources[path].name

    def _told(self, operand: Operand) -> Operand:
        return told(operand, self.environment)

    def matrix(self, text: str, role: str) -> Operand:
        """The matrix at an address, for a role ("query", "wq", …). Raises DataError."""
        address = address_of(text)
        document, where = self.document(address.path)
        return self._told(taken(document, address, role, where))

    def bundle(
        self, text: str, roles: tuple[str, ...], optional: frozenset[str]
    ) -> dict[str, Operand]:
        """The matrices of several roles, from one file or folder; those optional that are there.

        The member may name them all, ``{query,key,value}_states``, or be a pattern that each
        is found among. Raises DataError.
        """
        address = address_of(text)
        if is_folder(address):
            return self._in_folder(address, roles, optional)
        document, where = self.document(address.path)
        if "" in document:
            raise _of_one(where, "one matrix")
        if address.member is not None and "{" in address.member:
            return {role: self._told(taken(document, address, role, where)) for role in roles}
        document, part = among(document, address, where)
        fused = fitting(document, "qkv")
        if fused and not any(fitting(document, role) for role in roles):
            raise _of_one(where, fused[0])
        roles = tuple(role for role in roles if role not in optional or fitting(document, role))
        return {
            role: self._told(choose(document, role, where, several=True, part=part))
            for role in roles
        }

    def fused(self, text: str) -> Operand:
        """The one array that has Q, K and V in it. Raises DataError."""
        address = address_of(text)
        if not is_folder(address):
            return self.matrix(text, "qkv")
        found = in_folder(address.path, "qkv", address.part, self.document)
        if found is None:
            raise missing_from(address.path, "qkv")
        return self._told(found)

    def _in_folder(
        self, address: Address, roles: tuple[str, ...], optional: frozenset[str]
    ) -> dict[str, Operand]:
        found = {role: in_folder(address.path, role, address.part, self.document) for role in roles}
        for role, operand in found.items():
            if operand is None and role not in optional:
                raise missing_from(address.path, role)
        return {role: self._told(operand) for role, operand in found.items() if operand}

    def beside(self, text: str, role: str) -> tuple[Document, str]:
        """What else the file of a role's address has of the same layer, and the name that is meant.

        That is all of it, or where the address names a member, those of its names that begin alike;
        nothing of a pipe.
        """
        address = address_of(text)
        if str(address.path) == "-" or not address.path.is_file():
            return {}, ""
        document, where = self.document(address.path)
        if address.member is None:
            return document, next(iter(fitting(document, role)), "")
        name, _ = member_at(document, address, role, where)
        layer = "".join(f"{part}." for part in name.split(".")[:-2])
        layer_of = {other: held for other, held in document.items() if other.startswith(layer)}
        return layer_of, name


def told(found: _Found, environment: Environment) -> _Found:
    """What was found, once a person knows how it was read."""
    if found.reading:
        environment.note(f"{found.origin}: {found.reading}")
    return found


def _of_one(where: str, held: str) -> DataError:
    """What is wrong with one matrix where three were to be found."""
    what = f"holds {held}; --qkv takes a file of three"
    return DataError(f"{where}: {what}, or one of a fused layout: --layout l3hd or 3hld")
