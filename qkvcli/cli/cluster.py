"""Workers of a Dask scheduler, on this machine or on others, for the pieces of an output.

Dask is no dependency: it is there where `pip install 'qkvcli[dask]'` put it.
"""

from __future__ import annotations  # a future is made before it is declared

import asyncio
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any

from qkvcli.cli.environment import Environment
from qkvcli.errors import ClusterError, UsageError
from qkvcli.spreading import Crew, about

LOCAL = "local:"
"""What an address begins with that asks for workers on this machine, for this run alone."""
_PATIENCE = 10.0
"""How many seconds the scheduler has to answer."""
_COMING = 30.0
"""How many seconds its first worker has to come."""
_TIMES_OUT = (TimeoutError, asyncio.TimeoutError)
"""What says that time is up; they are one from Python 3.11 on."""
_GLANCE = 0.5
"""How many seconds pass between two looks at whether the scheduler is still there."""


@contextmanager
def crew_at(address: str, environment: Environment) -> Iterator[Crew]:
    """The workers at an address, or (``local:N``) so many that are started for the run.

    What is other there than here is noted, where it may change the last digits. Raises UsageError
    where Dask is not installed, ClusterError where nobody answers, or with another version.
    """
    distributed = _dask()
    with ExitStack() as closing:
        closing.enter_context(_silence())
        scheduler: Any = address
        if address.startswith(LOCAL):
            scheduler = closing.enter_context(_started(distributed, int(address[len(LOCAL) :])))
        try:
            client = closing.enter_context(distributed.Client(scheduler, timeout=_PATIENCE))
            client.wait_for_workers(1, timeout=_COMING)
        except (OSError, ValueError, *_TIMES_OUT) as fault:
            if isinstance(fault, _TIMES_OUT) and _answers(locals().get("client")):
                what = f"the Dask scheduler at {address} has no workers"
                raise ClusterError(f"{what}; start some: dask worker {address}") from None
            what = f"no Dask scheduler answers at {address}"
            raise ClusterError(f"{what}; start one: dask scheduler") from None
        executor = _Executor(client, address)
        _check_versions(executor, environment)
        yield Crew(executor)


def _dask() -> Any:
    try:
        return import_module("distributed")
    except ImportError:
        what = "--cluster needs Dask, which is not installed"
        raise UsageError(f"{what}: pip install 'qkvcli[dask]'") from None


@contextmanager
def _silence() -> Iterator[None]:
    """No words of Dask's own: what is wrong is said in a line of ours."""
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def _started(distributed: Any, count: int) -> Any:
    """A scheduler and workers, a process each, on this machine."""
    import_module("dask").config.set({"logging": dict.fromkeys(_TALKING, "critical")})
    return distributed.LocalCluster(
        n_workers=count,
        threads_per_worker=1,
        dashboard_address=None,
        memory_limit=None,  # what is mapped would count, and end a worker
        silence_logs=logging.CRITICAL,
    )


_TALKING = ("distributed", "distributed.worker", "distributed.nanny", "tornado")
"""Those of Dask's loggers that speak up in a worker."""


def _answers(client: Any) -> bool:
    return client is not None and client.status == "running"


def _check_versions(executor: _Executor, environment: Environment) -> None:
    """Raise ClusterError for another qkvcli, and note what else is other than here."""
    here, others = about(), dict[str, list[str]]()
    for worker, there in executor.everywhere(about).items():
        if not isinstance(there, dict):
            what = f"the worker at {worker} has no qkvcli {here['qkvcli']}"
            raise ClusterError(f"{what}; install it there ({type(there).__name__}: {there})")
        if there["qkvcli"] != here["qkvcli"]:
            what = f"the worker at {worker} has qkvcli {there['qkvcli']}"
            raise ClusterError(f"{what}, and here is {here['qkvcli']}; install the same")
        for name, said in there.items():
            if said != here[name]:
                others.setdefault(f"{name} {said}, and here {here[name]}", []).append(worker)
    for said, workers in others.items():
        who = workers[0] if len(workers) == 1 else f"{workers[0]} and {len(workers) - 1} more"
        environment.note(f"the worker at {who} has {said}: the last digits may differ")


class _Executor:
    """A Dask client as an executor."""

    def __init__(self, client: Any, address: str) -> None:
        self.client, self.address = client, address

    @property
    def workers(self) -> int:
        """How many pieces are worked on at a time."""
        return max(sum(self.client.ncores().values()), 1)

    def submit(self, work: Callable[..., Any], /, *arguments: Any) -> _Future:
        """Have a call made by a worker."""
        return _Future(self, self.client.submit(work, *arguments, pure=False))

    def share(self, data: Any) -> Any:
        """Bring data to every worker, once."""
        return self.client.scatter(data, broadcast=True, hash=False)

    def everywhere(self, work: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        """What a function gives on each worker, or what it raised there."""
        if not _answers(self.client):
            return {}
        found: dict[str, Any] = self.client.run(work, *arguments, on_error="return")
        return found

    def gone(self) -> ClusterError:
        """The error for a scheduler that is no longer there."""
        return ClusterError(f"the Dask scheduler at {self.address} went away; nothing is saved")


class _Future:
    """A Dask future, whose waiting ends where the scheduler goes away."""

    def __init__(self, executor: _Executor, future: Any) -> None:
        self.executor, self.future = executor, future

    def result(self) -> Any:
        """What the call gave. Raises what it raised, or ClusterError."""
        distributed = _dask()
        while True:
            try:
                return self.future.result(timeout=_GLANCE)
            except _TIMES_OUT:
                if not _answers(self.executor.client):
                    raise self.executor.gone() from None
            except distributed.KilledWorker:
                what = f"the workers of {self.executor.address} ended, one after the other"
                raise ClusterError(f"{what}, at the same piece; have they enough memory?") from None
            except distributed.CancelledError:
                raise self.executor.gone() from None

    def cancel(self) -> None:
        """Call the work off."""
        if _answers(self.executor.client):
            self.future.cancel()
