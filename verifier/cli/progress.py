"""Progress on standard error, where that is a terminal; silence elsewhere."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")


def _columns(*columns: Any) -> Any:
    from rich.console import Console
    from rich.progress import Progress

    return Progress(*columns, console=Console(stderr=True), transient=True)


def _bar() -> Any:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    return _columns(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())


def count_up(items: Iterable[Item], total: int, name: str) -> Iterator[Item]:
    """The items, with a bar that counts them."""
    if not sys.stderr.isatty():
        yield from items
        return
    with _bar() as bar:
        task = bar.add_task(name, total=total)
        for item in items:
            bar.stop()  # the item may be printed to the same terminal
            yield item
            bar.advance(task)
            bar.start()


@contextmanager
def counting() -> Iterator[Callable[[str, int, int], None] | None]:
    """A function to call with (a kind, how many are done, how many there will be): one bar per kind. None where nobody watches."""
    if not sys.stderr.isatty():
        yield None
        return
    with _bar() as bar:
        tasks: dict[str, Any] = {}

        def show(kind: str, done: int, wanted: int) -> None:
            if kind not in tasks:
                tasks[kind] = bar.add_task(kind, total=wanted)
            bar.update(tasks[kind], completed=done)

        yield show


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """A clock, for work that says nothing in between."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    with _columns(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()) as bar:
        bar.add_task(text, total=None)
        yield


@contextmanager
def telling(text: str) -> Iterator[Callable[[str], None] | None]:
    """A function to call with a few words on how far the work is. None where nobody watches."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    with _columns(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()) as bar:
        task = bar.add_task(text, total=None)
        yield lambda words: bar.update(task, description=words)


@contextmanager
def narrowing(name: str = "largest violation") -> Iterator[Callable[[Any], None] | None]:
    """A function to call with a `Search`: shows the bracket of what it looks for and its open pieces. None where nobody watches."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    with _columns(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()) as bar:
        task = bar.add_task("bounding", total=None)

        def show(search: Any) -> None:
            text = f"{name} in [{search.lower:.6g}, {search.upper:.6g}], {search.open_pieces} pieces open"
            bar.update(task, description=text)

        yield show


@contextmanager
def enumerating() -> Iterator[Callable[[int], None] | None]:
    """A function to call with the number of cells so far. None where nobody watches."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    with _columns(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()) as bar:
        task = bar.add_task("enumerating", total=None)
        yield lambda cells: bar.update(task, description=f"{cells} cells")
