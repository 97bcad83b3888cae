"""Checkpoints of a search: a log of open pieces in the store, of which each checkpoint writes what is new.

A frontier may hold a hundred thousand pieces, and little of it changes in half a second. So pieces are written in chunks, once each; a
checkpoint adds the chunk of those that came, and says of the older chunks which of their pieces are still open. Chunks of which little is
left are written anew, and deleted. All of it is one transaction: after a kill at any moment the last checkpoint is whole.
"""

import os
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from verifier.search.question import Node, Question
from verifier.search.search import Search
from verifier.search.store import Record, Store, StoreError

# Seconds between checkpoints: at least this share of the work may go into writing them, but never are they further apart than LATEST.
SHARE, SOONEST, LATEST = 0.04, 0.25, 0.75
SPARSE = 0.25  # a chunk of which less than this share is open is written anew
MOST_CHUNKS = 128


@dataclass(eq=False)
class _Chunk:
    key: str
    count: int  # pieces written, open or not
    open: dict[Node, int] = field(default_factory=dict)  # and where each stands in the chunk


class Checkpoint:
    """One search's place in the store. `keep` after every step writes when it is time to; `load` gives what the last run had.

    A run that is finished leaves its answer (JSON) instead, see `finish` and `answer`. Errors: StoreError, also where another process
    that is still alive is at work on the same run in the same file.
    """

    def __init__(self, store: Store, prefix: str = "") -> None:
        self._store = store
        self._prefix = prefix
        self._chunks: list[_Chunk] = []
        self._name = uuid4().hex
        self._written = 0
        self._learnt: tuple[Question, int] | None = None  # who has learnt, and the version of it that was written last
        self._next = -1.0
        self._owned = False
        self._last: tuple[Any] | None = None  # extra, as it was kept last
        self.seconds = 0.0  # spent writing
        self.count = 0  # checkpoints written

    def answer(self) -> Record:
        """What `finish` has left, or None."""
        return self._store.get_record(self._key("answer"))

    def load(self) -> dict[str, Any] | None:
        """The state to `restore` a search from, with what was given to `keep` under "extra"; None where nothing was kept.

        Takes the run over: whoever else still writes to it gets an error.
        """
        with self._store.transaction():
            self._take_over()
            state = self._store.get_blob(self._key("state"))
            if state is None:
                return None
            state["learnt"] = self._store.get_blob(self._key("learnt"))
            nodes: list[Node] = []
            for key, count, indices in state.pop("chunks"):
                chunk = _Chunk(key, count)
                pieces = self._store.get_blob(key)
                if not isinstance(pieces, list) or len(pieces) != count:
                    raise StoreError(f"{self._store.path}, entry {key!r}", "is missing or damaged.", "Delete the file, or name another.")
                for index in indices.tolist():
                    chunk.open[pieces[index]] = index
                nodes.extend(chunk.open)
                self._chunks.append(chunk)
        if len(nodes) != state["pieces"]:
            raise StoreError(f"{self._store.path}, entry {self._key('state')!r}", "is damaged.", "Delete the file, or name another.")
        return state | {"frontier": nodes}

    def due(self) -> bool:
        """Whether it is time to write."""
        return time.monotonic() >= self._next

    def keep(self, search: Search, extra: Any = None, *, now: bool = False) -> None:
        """Write what is new since the last checkpoint, if it is time to or `now`. extra: whatever else the caller needs to go on."""
        self._last = (extra,)
        if not now and not self.due():
            return
        began = time.monotonic()
        if not self._owned:
            with self._store.transaction():
                self._take_over()
        try:
            self._write(search, extra)
        except BaseException:
            self._chunks, self._learnt = [], None  # what the file holds is not certain: the next checkpoint writes everything
            raise
        cost = time.monotonic() - began
        self.seconds += cost
        self.count += 1
        self._next = time.monotonic() + min(max(cost / SHARE, SOONEST), LATEST)

    def finish(self, answer: Record) -> None:
        """Leave the answer, and nothing else."""
        with self._store.transaction():
            self._check_owner()
            self._store.put_record(self._key("answer"), answer)
            self._clear()

    def leave(self, search: Search) -> None:
        """Write where the search ends unfinished, and let another process go on from here at once."""
        if self._last is not None:
            self.keep(search, self._last[0], now=True)
        if self._owned:
            self._owned = False
            self._store.delete(self._key("owner"))

    def _key(self, name: str) -> str:
        return self._prefix + name

    def _write(self, search: Search, extra: Any) -> None:
        chunks, new, dropped = self._sorted(search.frontier())
        gone = [chunk.key for chunk in dropped] if self._chunks else self._store.keys(self._key("chunk/"))
        key = self._key(f"chunk/{self._name}/{self._written:08}")
        self._written += 1
        if new:
            chunks = [*chunks, _Chunk(key, len(new), {node: index for index, node in enumerate(new)})]
        state = search.state() | {"extra": extra, "pieces": sum(len(chunk.open) for chunk in chunks)}
        del state["frontier"]
        learnt = state.pop("learnt")
        state["chunks"] = [(chunk.key, chunk.count, np.fromiter(chunk.open.values(), np.uint32, len(chunk.open))) for chunk in chunks]
        with self._store.transaction():
            self._check_owner()
            if new:
                self._store.put_blob(key, new)
            self._store.put_blob(self._key("state"), state)
            # Versions are a question's own: another question, of the next ball of a radius for one, counts anew.
            if self._learnt != (search.question, state["version"]):
                self._store.put_blob(self._key("learnt"), learnt)
            for old in gone:
                self._store.delete(old)
        self._chunks, self._learnt = chunks, (search.question, state["version"])

    def _sorted(self, nodes: Iterable[Node]) -> tuple[list[_Chunk], list[Node], list[_Chunk]]:
        """(chunks that stay, with the pieces still open; pieces to write; chunks to delete)."""
        missing = dict.fromkeys(nodes)
        stay, gone = [], []
        for chunk in self._chunks:
            chunk.open = {node: index for node, index in chunk.open.items() if node in missing}
            if len(chunk.open) <= SPARSE * chunk.count:
                gone.append(chunk)
                continue
            stay.append(chunk)
            for node in chunk.open:
                del missing[node]
        if len(stay) > MOST_CHUNKS:
            stay.sort(key=lambda chunk: len(chunk.open))
            small, stay = stay[: MOST_CHUNKS // 2], stay[MOST_CHUNKS // 2 :]
            gone.extend(small)
            missing.update((node, None) for chunk in small for node in chunk.open)
        return stay, list(missing), gone

    def _clear(self) -> None:
        for key in self._store.keys(self._prefix):
            if key != self._key("answer"):
                self._store.delete(key)
        self._chunks, self._owned = [], False

    # One process at a time: the pieces of two searches of one question do not fit together.

    def _take_over(self) -> None:
        """Inside a transaction: become the owner of the run, unless its owner is alive."""
        owner = self._store.get_record(self._key("owner"))
        if owner is not None and owner["name"] != self._name and _alive(owner["process"]):
            raise StoreError(
                str(self._store.path),
                f"is in use: process {owner['process'][1]} is at work on the same question.",
                "Wait for it, or name another file.",
            )
        self._store.put_record(self._key("owner"), {"name": self._name, "process": _this_process()})
        self._owned = True

    def _check_owner(self) -> None:
        if not self._owned:
            self._take_over()
            return
        owner = self._store.get_record(self._key("owner"))
        if owner is None or owner["name"] != self._name:
            raise StoreError(str(self._store.path), "was taken over by another process, which goes on from here.", "Name another file.")


def _this_process() -> list[Any]:
    return [socket.gethostname(), os.getpid(), _began(os.getpid())]


def _alive(process: list[Any]) -> bool:
    """Whether that process runs, as far as this machine can tell; a process of another machine is taken for dead."""
    host, number, began = process
    return host == socket.gethostname() and number != os.getpid() and began != "" and _began(number) == began


def _began(process: int) -> str:
    """When a process began, as the system tells it: with the number it names one process for good. "" where there is none."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
