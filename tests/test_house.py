"""How the house is built: imports run one way, and each command explains itself."""

import ast
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import qkvcli
from qkvcli.cli.commands import COMMANDS
from tests.conftest import ROOT, Program

ALLOWED = {
    "errors": set(),
    "core": {"errors"},
    "formats": {"core", "errors"},
    "render": {"core", "errors"},
    "spreading": {"core", "errors", "__init__"},
    "cli": {"core", "errors", "formats", "render", "spreading", "__init__"},
    "api": {"core", "errors", "formats", "render", "spreading"},
    "comparing": {"api", "core", "errors", "formats", "render"},
    "__init__": {"api", "comparing", "core", "errors"},
    "__main__": {"cli"},
}
OUTSIDE = {
    "errors": set(),
    "core": {"numpy"},
    "formats": {"numpy", "orjson"},
    "render": {"numpy", "rich"},
    "cli": {"numpy", "typer", "rich"},
    "spreading": {"numpy"},
    "api": {"numpy", "typing_extensions"},  # the latter for type checkers alone
    "comparing": {"numpy"},
    "__init__": set(),
    "__main__": set(),
}
SOURCES = sorted((ROOT / "qkvcli").rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(ROOT / "qkvcli").parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are spelt from the top"
            module = node.module or ""
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    here = room(path)
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "qkvcli":
            known = parts[1] if parts[1] in ALLOWED else "__init__"
            assert known in ALLOWED[here] | {here}, f"{here} imports {name}"
        elif parts[0] not in sys.stdlib_module_names:
            assert parts[0] in OUTSIDE[here], f"{here} imports {name}"


def test_no_two_modules_import_each_other() -> None:
    """Directly or in a circle; also where the import stands in a function."""
    modules = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in SOURCES}
    names = set(modules.values())

    def targets(path: Path) -> set[str]:
        found = {name if name in names else name.rpartition(".")[0] for name in imported(path)}
        return found & names

    graph = {name: targets(path) for path, name in modules.items()}
    list(TopologicalSorter(graph).static_order())  # raises CycleError


def test_the_top_level_holds_nothing_else() -> None:
    files = {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md"}
    allowed = files | {"qkvcli", "tests", "sample_inputs"}
    assert {p.name for p in ROOT.iterdir() if not p.name.startswith(".")} <= allowed


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(qkv: Program, command: str) -> None:
    for flag in ("--help", "-h"):
        shown = qkv(command, flag)
        assert shown.code == 0
        assert "Examples" in shown.out
        assert shown.out.count(f"qkvcli {command}") >= 3  # the usage line, and two examples


def test_help_alone_names_the_commands(qkv: Program) -> None:
    assert qkv().out == qkv("--help").out
    for command in COMMANDS:
        assert f" {command} " in qkv().out


def test_the_version_stands_in_one_place(qkv: Program) -> None:
    assert qkv("--version").out == f"qkvcli {qkvcli.__version__}\n"
    assert qkvcli.__version__ not in (ROOT / "pyproject.toml").read_text()


def test_the_library_names_what_it_has() -> None:
    assert {name for name in dir(qkvcli) if name.islower()} == {
        "__version__",
        "attend",
        "attention",
        "compare",
        "output",
        "scores",
        "softmax",
    }
    for name in dir(qkvcli):
        assert getattr(qkvcli, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'attentive'"):
        _ = qkvcli.attentive
