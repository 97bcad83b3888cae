"""A Dask cluster as an executor: its workers need this package installed, and nothing of this process or its files."""

import logging
import pickle
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from math import inf
from typing import Any

from problems.errors import InputError

SCHEME = "dask://"
# Seconds for the scheduler to answer, and then for a first worker to be there.
ANSWERS, WORKERS = 5.0, 10.0
RECOUNT = 2.0


class ExecutorError(InputError):
    """An executor that is not known, not installed or not there."""


class Cluster(Executor):
    """What a connected `distributed.Client` offers. Tasks of workers that die are run again by its scheduler."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._executor = client.get_executor(pure=False)
        self._counted, self._count = -RECOUNT, 1

    @property
    def count(self) -> int:
        """Tasks that run at a time, as of a moment ago: workers come and go."""
        if time.monotonic() - self._counted > RECOUNT:
            self._count = max(1, sum(self._client.nthreads().values()))
            self._counted = time.monotonic()
        return self._count

    def share(self, context: Any) -> Any:
        """The context as the result of a task, which the cluster brings to where it is needed, and computes again where it was lost."""
        return self._client.submit(pickle.loads, pickle.dumps(context), pure=False)

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        return self._executor.submit(function, *args, **kwargs)


@contextmanager
def opened(executor: Executor | str | None, seconds: float = inf) -> Iterator[Executor | None]:
    """The executor itself, or the one at an address dask://HOST:PORT, which is left at the end and must be there within `seconds`.

    Raises ExecutorError.
    """
    if not isinstance(executor, str):
        yield executor
        return
    client = _connected(executor, max(seconds, 0.1))
    try:
        yield Cluster(client)
    finally:
        client.close(timeout=1)


def _connected(address: str, seconds: float) -> Any:
    if not address.startswith(SCHEME) or not address.removeprefix(SCHEME):
        raise ExecutorError(f"executor {address!r}", "is not known.", f"Give the scheduler of a Dask cluster, {SCHEME}HOST:PORT.")
    try:
        from distributed import Client
    except ImportError:
        raise ExecutorError(f"executor {address}", "needs dask, which is not installed.", "pip install 'tightcert[cluster]'.") from None
    for name in ("distributed", "tornado"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what goes wrong is said once, by an error
    try:
        client = Client(f"tcp://{address.removeprefix(SCHEME)}", timeout=min(ANSWERS, seconds), set_as_default=False)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".") or type(error).__name__
        raise ExecutorError(
            f"executor {address}", f"does not answer ({reason}).", "Start a scheduler there, or give its address."
        ) from None
    try:
        client.wait_for_workers(1, timeout=min(WORKERS, seconds))
    except OSError:
        client.close(timeout=1)
        raise ExecutorError(f"executor {address}", "has no workers.", f"Start some: dask worker {address.removeprefix(SCHEME)}.") from None
    return client
