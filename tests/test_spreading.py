"""Pieces on the workers of executors: processes, Dask's; what is lost, and what is said then."""

import importlib.util
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

import qkvcli
from qkvcli import spreading
from qkvcli.cli.environment import Environment
from qkvcli.core.compute import Sizes, output_into
from qkvcli.errors import ClusterError, UsageError
from tests import dask_processes
from tests.conftest import Program, environment
from tests.dask_processes import Scheduler
from tests.test_long import fitted
from tests.test_models import problems

LENGTH = 3000
"""Enough that the work is parted, and not one piece."""


def arrays(*leading: int, dtype: Any = np.float32) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    names = ("query", "key", "value")
    return {n: rng.standard_normal((*leading, LENGTH, 16)).astype(dtype) for n in names}


@pytest.fixture(scope="module")
def pool() -> Iterator[Executor]:
    """Two processes that share no memory with this one."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as found:
        yield found


class Counted(Executor):
    """An executor that notes what it is given, and does it at once in this thread."""

    def __init__(self) -> None:
        self.waiting, self.most, self.pieces = set[object](), 0, 0

    def submit(self, work: Any, /, *arguments: Any, **more: Any) -> "Future[Any]":
        future = _Noted(self.waiting)
        self.pieces += 1
        self.most = max(self.most, len(self.waiting))
        future.set_result(work(*arguments, **more))
        return future


class _Noted(Future[Any]):
    """A future that is among those that wait until it is taken."""

    def __init__(self, waiting: set[object]) -> None:
        super().__init__()
        self.among = waiting
        waiting.add(self)

    def result(self, timeout: float | None = None) -> Any:
        self.among.discard(self)
        return super().result(timeout)


OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"causal": True},
    {"window": (100, 20), "softcap": 3.0},
    {"softmax_dtype": "float16"},
    {"dtype": "bfloat16"},
    {"heads": 4, "kv_heads": 4},
    {"rope": 10000, "alibi": True, "offset": 5},
)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_processes_give_the_numbers_of_threads(pool: Executor, options: dict[str, Any]) -> None:
    leading = () if "heads" in options else (2,)
    given = {**arrays(*leading), "scale": "sqrt", **options}
    expected, sums = qkvcli.attention(**given, lse=True)
    found, found_sums = qkvcli.attention(**given, lse=True, executor=pool)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(found_sums, sums)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ">f4"])
def test_any_type_and_any_lie_of_the_numbers_arrives(pool: Executor, dtype: Any) -> None:
    given = arrays(dtype=dtype)
    given["key"] = np.asfortranarray(given["key"])
    given["value"] = np.repeat(given["value"], 2, axis=1)[::-1, ::2]
    expected = qkvcli.attention(**given)
    np.testing.assert_array_equal(qkvcli.attention(**given, executor=pool), expected)


@settings(max_examples=30)
@given(problems())
def test_any_layer_is_pickled_whole(problem: dict[str, Any]) -> None:
    """Masks, caches, batches and groups: through bytes, and by reference."""
    expected = qkvcli.attention(**problem)
    found = np.empty_like(expected)
    sizes = Sizes(held=0, queries=2, keys=3)
    crew = spreading.Crew(_ThroughBytes())
    output_into(fitted(problem), found, sizes=sizes, crew=crew)
    np.testing.assert_allclose(found, expected, atol=1e-10)


class _ThroughBytes(Counted):
    """Its worker knows nothing that was not sent."""

    def submit(self, work: Any, /, *arguments: Any, **more: Any) -> "Future[Any]":
        here = dict(spreading._here)
        spreading._here.clear()
        try:
            return super().submit(work, *arguments, **more)
        finally:
            spreading._here.clear()
            spreading._here.update(here)


@pytest.mark.parametrize("lost", ["gone", "changed"])
def test_what_cannot_be_mapped_is_sent_whole(pool: Executor, folder: Path, lost: str) -> None:
    """The file of a mapped array is no longer there, or is another."""
    given = arrays()
    expected = qkvcli.attention(**given)
    for name, array in given.items():
        np.save(f"{name}.npy", array)
        given[name] = np.load(f"{name}.npy", mmap_mode="r")
        Path(f"{name}.npy").unlink()
        if lost == "changed":
            np.save(f"{name}.npy", np.zeros_like(array))
    np.testing.assert_array_equal(qkvcli.attention(**given, executor=pool), expected)


def test_arrays_that_are_mapped_are_not_written_again(folder: Path) -> None:
    given = arrays()
    for name, array in given.items():
        np.save(f"{name}.npy", array)
        given[name] = np.load(f"{name}.npy", mmap_mode="r")
    sent = list[bytes]()

    class Watched(Counted):
        def submit(self, work: Any, /, *arguments: Any, **more: Any) -> "Future[Any]":
            sent.append(arguments[1])
            return super().submit(work, *arguments, **more)

    qkvcli.attention(**given, executor=Watched())
    assert str(folder).encode() in sent[0]
    assert max(map(len, sent)) < 20_000  # K and V are 192,000 bytes each


def test_what_is_broadcast_is_written_once(pool: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    given = arrays(4)
    mask = np.tril(np.ones((LENGTH, LENGTH), bool))
    given["mask"] = np.broadcast_to(mask, (4, LENGTH, LENGTH))
    written = list[int]()
    write = spreading._Storing._write

    def noted(self: Any, array: Any) -> Any:
        found = write(self, array)
        written.append(found.size)
        return found

    monkeypatch.setattr(spreading._Storing, "_write", noted)
    found = qkvcli.attention(**given, executor=pool)
    np.testing.assert_array_equal(found, qkvcli.attention(**given))
    assert max(written) <= mask.nbytes


def test_a_copy_on_write_map_sends_what_was_written(pool: Executor, folder: Path) -> None:
    given = arrays()
    np.save("value.npy", given["value"])
    mapped = np.load("value.npy", mmap_mode="c")
    mapped[:] = given["value"] = given["value"] * 2
    expected = qkvcli.attention(**given)
    given["value"] = mapped
    np.testing.assert_array_equal(qkvcli.attention(**given, executor=pool), expected)


def test_few_pieces_wait() -> None:
    executor = Counted()
    executor.workers = 2  # type: ignore[attr-defined]
    given = arrays(8)
    found = qkvcli.attention(**given, executor=executor)
    np.testing.assert_array_equal(found, qkvcli.attention(**given))
    assert executor.pieces > 6
    assert executor.most <= 2 * spreading._AHEAD


def test_little_work_goes_to_a_worker_as_it_is() -> None:
    executor = Counted()
    given = {name: array[:50] for name, array in arrays().items()}
    found = qkvcli.attention(**given, executor=executor)
    np.testing.assert_array_equal(found, qkvcli.attention(**given))
    assert executor.pieces == 1


def test_threads_of_somebody_elses_copy_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    given = arrays(2)
    monkeypatch.delattr(spreading, "_Storing")
    with ThreadPoolExecutor(2) as executor:
        found = qkvcli.attention(**given, executor=executor)
    np.testing.assert_array_equal(found, qkvcli.attention(**given))
    assert not spreading._here


def test_what_is_no_executor_is_refused() -> None:
    with pytest.raises(UsageError, match="executor is a int, which has no submit"):
        qkvcli.attention(**arrays(), executor=3)  # type: ignore[call-overload]


def test_a_worker_that_fails_says_so(pool: Executor) -> None:
    class Failing(Counted):
        def submit(self, work: Any, /, *arguments: Any, **more: Any) -> "Future[Any]":
            future: Future[Any] = Future()
            future.set_exception(MemoryError("of the worker"))
            return future

    with pytest.raises(MemoryError, match="of the worker"):
        qkvcli.attention(**arrays(), executor=Failing())
    assert not spreading._here


# --cluster

dask = pytest.mark.skipif(
    importlib.util.find_spec("distributed") is None, reason="Dask is not installed"
)
LONG = 20_000


@pytest.fixture
def running() -> Iterator[Callable[["subprocess.Popen[bytes]"], "subprocess.Popen[bytes]"]]:
    """Processes that end with the test."""
    found = list["subprocess.Popen[bytes]"]()

    def kept(process: "subprocess.Popen[bytes]") -> "subprocess.Popen[bytes]":
        found.append(process)
        return process

    yield kept
    for process in found:
        process.kill()
        process.communicate()


@pytest.fixture
def scheduler(running: Any, folder: Path) -> Scheduler:
    found = dask_processes.scheduler()
    running(found.process)
    return found


@pytest.fixture
def inputs(folder: Path) -> list[str]:
    rng = np.random.default_rng(0)
    for name in "qkv":
        np.save(f"{name}.npy", rng.standard_normal((LONG, 64), dtype=np.float32))
    return [word for name in "qkv" for word in (f"-{name}", f"{name}.npy")]


def output(inputs: list[str], *more: str) -> "subprocess.Popen[bytes]":
    words = ["output", *inputs, "--scale", "sqrt", "--quiet", *more]
    return subprocess.Popen(
        [sys.executable, "-m", "qkvcli", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )


def ended(process: "subprocess.Popen[bytes]") -> tuple[int, str]:
    shown, said = process.communicate(timeout=120)
    assert not shown
    return process.returncode, said.decode()


@dask
def test_workers_that_are_started_for_the_run(inputs: list[str]) -> None:
    assert ended(output(inputs, "-o", "here.npy")) == (0, "")
    assert ended(output(inputs, "-o", "there.npy", "--cluster", "local:2")) == (0, "")
    assert Path("here.npy").read_bytes() == Path("there.npy").read_bytes()


@dask
@pytest.mark.parametrize("ending", ["npy", "csv"])
def test_a_worker_that_is_killed_costs_its_pieces_again(
    scheduler: Scheduler, running: Any, inputs: list[str], ending: str
) -> None:
    assert ended(output(inputs, "-o", f"here.{ending}")) == (0, "")
    first, _ = (running(scheduler.worker()) for _ in range(2))
    words = ("-o", f"there.{ending}", "--cluster", scheduler.address, "--window", "18000,18000")
    process = running(output(inputs, *words))
    assert ended(output(inputs, "-o", f"here.{ending}", "--window", "18000,18000")) == (0, "")
    wait_for(lambda: bool(list(Path.cwd().glob(".there*"))), process)
    first.send_signal(signal.SIGKILL)
    assert process.poll() is None, "it was killed too late"
    assert ended(process) == (0, "")
    assert Path(f"here.{ending}").read_bytes() == Path(f"there.{ending}").read_bytes()


def is_there(group: int) -> bool:
    """Whether there is a process of a group."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(there: Callable[[], bool], process: "subprocess.Popen[bytes]") -> None:
    """Wait until something is there, while a process runs."""
    end = time.monotonic() + 60
    while not there():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


@dask
def test_a_scheduler_that_goes_away_is_one_line(
    scheduler: Scheduler, running: Any, inputs: list[str]
) -> None:
    running(scheduler.worker())
    Path("there.npy").write_bytes(b"before")
    process = running(output(inputs, "-o", "there.npy", "--cluster", scheduler.address))
    wait_for(lambda: bool(list(Path.cwd().glob(".there*"))), process)
    scheduler.process.kill()
    assert process.poll() is None, "it was killed too late"
    said = f"qkvcli: the Dask scheduler at {scheduler.address} went away; nothing is saved\n"
    assert ended(process) == (4, said)
    assert Path("there.npy").read_bytes() == b"before"
    assert not list(Path.cwd().glob(".there*"))


@dask
def test_ctrl_c_ends_the_workers_too(inputs: list[str], running: Any) -> None:
    """In silence; a terminal sends it to all of them."""
    words = ["output", *inputs, "--quiet", "-o", "there.npy", "--cluster", "local:2"]
    process = running(
        subprocess.Popen(
            [sys.executable, "-m", "qkvcli", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
            start_new_session=True,
        )
    )
    wait_for(lambda: bool(list(Path.cwd().glob(".there*"))), process)
    os.killpg(process.pid, signal.SIGINT)
    assert ended(process) == (130, "")
    assert not [path.name for path in Path.cwd().iterdir() if "there" in path.name]
    end = time.monotonic() + 20
    while is_there(process.pid):  # somebody of the session, who ends soon after
        assert time.monotonic() < end
        time.sleep(0.1)


@dask
def test_no_worker_is_left(
    scheduler: Scheduler, running: Any, inputs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from qkvcli.cli import cluster

    monkeypatch.setattr(cluster, "_COMING", 1.0)
    worker = running(scheduler.worker())
    with cluster.crew_at(scheduler.address, Environment.of_process()) as crew:
        waiting = crew.executor.submit(time.sleep, 100)
        worker.kill()
        with pytest.raises(ClusterError, match="has no workers left"):
            waiting.result()


@dask
def test_what_cannot_be_mapped_comes_to_dasks_workers_too(
    scheduler: Scheduler, running: Any, folder: Path
) -> None:
    from qkvcli.cli import cluster

    running(scheduler.worker())
    given = arrays(2)
    expected = qkvcli.attention(**given)
    for name, array in given.items():
        np.save(f"{name}.npy", array)
        given[name] = np.load(f"{name}.npy", mmap_mode="r")
        Path(f"{name}.npy").unlink()
    with cluster.crew_at(scheduler.address, Environment.of_process()) as crew:
        found = np.empty_like(expected)
        output_into(fitted(given), found, crew=crew)
    np.testing.assert_array_equal(found, expected)


@dask
def test_versions_that_differ_are_named(
    scheduler: Scheduler, running: Any, inputs: list[str], tmp_path: Path
) -> None:
    """A worker with another NumPy is noted, one with another qkvcli refused."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os\n"
        "if 'FAKED' in os.environ:\n"
        "    module, version = os.environ['FAKED'].split('=')\n"
        "    __import__(module).__version__ = version\n"
    )
    path = os.pathsep.join([str(tmp_path), environment().get("PYTHONPATH", "")])
    worker = running(scheduler.worker(PYTHONPATH=path, FAKED="numpy=2.0.99"))
    words = ("-o", "there.npy", "--cluster", scheduler.address)
    code, said = ended(output(inputs, *words))
    here = f"NumPy 2.0.99, and here {np.__version__}: the last digits may differ\n"
    assert code == 0
    assert re.fullmatch(rf"note: the worker at tcp://\S+ has {re.escape(here)}", said)
    worker.kill()
    worker.wait()
    running(scheduler.worker(PYTHONPATH=path, FAKED="qkvcli=0.0.1"))
    code, said = ended(output(inputs, *words))
    assert code == 4
    assert f"has qkvcli 0.0.1, and here is {qkvcli.__version__}; install the same" in said


@dask
def test_nobody_answers(qkv: Program, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from qkvcli.cli import cluster

    monkeypatch.setattr(cluster, "_PATIENCE", 0.5)
    shown = qkv("output", "--seed", 1, "-f", "csv", "--cluster", "127.0.0.1:9")
    assert shown.code == 4
    assert shown.err == (
        "qkvcli: no Dask scheduler answers at 127.0.0.1:9; start one: dask scheduler\n"
    )


@dask
def test_a_scheduler_without_workers(
    scheduler: Scheduler, qkv: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qkvcli.cli import cluster

    monkeypatch.setattr(cluster, "_COMING", 0.5)
    shown = qkv("output", "--seed", 1, "-f", "csv", "--cluster", scheduler.address)
    assert shown.code == 4
    assert "has no workers; start some: dask worker tcp://" in shown.err


def test_dask_is_not_installed(qkv: Program, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    shown = qkv("output", "--seed", 1, "-f", "csv", "--cluster", "local:2")
    assert (shown.code, shown.out) == (2, "")
    assert shown.err == (
        "qkvcli: --cluster needs Dask, which is not installed: pip install 'qkvcli[dask]'\n"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--cluster", "two"), "'two' is not an address such as tcp://host:8786, or local:2"),
        (("--cluster", "local:0"), "'local:0' is not an address"),
        (("--cluster", "local:2", "-f", "table"), "computes what is saved or piped as data"),
        (("--cluster", "local:2", "-f", "csv", "--expect", "x.npy"), "leave one out"),
    ],
)
def test_a_cluster_that_would_have_nothing_to_do_is_refused(
    qkv: Program, folder: Path, words: tuple[str, ...], said: str
) -> None:
    shown = qkv("output", "--seed", 1, *words)
    assert (shown.code, shown.out) == (2, "")
    assert said in shown.err


def test_weights_that_are_given_are_mixed_here(qkv: Program, folder: Path) -> None:
    np.save("w.npy", np.eye(3))
    np.save("v.npy", np.eye(3))
    shown = qkv("output", "w.npy", "-v", "v.npy", "-f", "csv", "--cluster", "local:2")
    assert shown.code == 2
    assert "the weights are given, and few products are left" in shown.err
