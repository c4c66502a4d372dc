"""How the tests run the program: in this process, with streams of their own."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import settings
from typer.testing import CliRunner

from qkvcli.cli.app import app

settings.register_profile("ours", deadline=None)  # shared machines are slow at times
settings.load_profile("ours")

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "sample_inputs"


class Result(NamedTuple):
    """What a run of the program left behind."""

    code: int
    out: str
    err: str
    data: bytes


Program = Callable[..., Result]


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the person who runs the tests reaches the program."""
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "LC_ALL", "LC_CTYPE", "LANG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def qkv() -> Program:
    """The program: ``qkv("run", "--seed", 42, stdin=b"…")``; its output is no terminal."""

    def run(*words: object, stdin: bytes | str = b"") -> Result:
        result = CliRunner().invoke(app, [str(word) for word in words], input=stdin)
        assert result.exception is None or isinstance(result.exception, SystemExit), repr(
            result.exception
        )
        return Result(result.exit_code, result.stdout, result.stderr, result.stdout_bytes)

    return run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and the program is in it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def environment(**settings: str) -> dict[str, str]:
    """This process's environment with settings of the test's own, for a process it starts."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    return {**kept, **settings}
