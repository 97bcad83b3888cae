"""A key-value store on disk, so that work that was done is never done twice.

One sqlite file in WAL mode: it survives kill -9 with nothing lost, and several processes may use it at once. Every entry belongs
to a run, named by a fingerprint of the network, the question and its options: results of different networks or options never
mix, whatever their keys. Records are JSON, checkpoints are pickled; each entry carries a checksum, so that a damaged byte is an
error and never a result.

What is trusted: that whoever can write the file is the user. Unpickling is nevertheless restricted to numpy arrays, plain
values and classes of this project, so that a store that came from elsewhere cannot run code.
"""

import io
import json
import os
import pickle
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from problems.errors import InputError

SCHEMA_VERSION = 1
_APPLICATION = 0x74636572  # "tcer": marks the file as ours, so that no other database is ever written to
_BUSY_SECONDS = 60.0
_MISSING = object()
_COMPRESSED_FROM = (
    1 << 14
)  # bytes; open pieces repeat each other: the fastest compression makes them a small part and costs less than writing
_inherited: list[sqlite3.Connection] = []  # connections of a parent process: kept, since closing one here would disturb the parent

Record = Any  # whatever JSON can hold: None, bool, int, float (infinities too), str, lists and dictionaries of these


class StoreError(InputError):
    """A store that cannot be opened, read or written: damaged, of another version, locked, or on a full disk."""


def run_fingerprint(network: str, question: str, **options: object) -> str:
    """SHA-256 that names a run: the network's fingerprint, the question, and every option that can change a result.

    Options are plain values, sequences or numpy arrays. Leave out what cannot change a result (workers, progress).
    """
    return sha256(_canonical({"network": network, "question": question, "options": options}).encode()).hexdigest()


class Store:
    """Entries of one run in the file `path`; `path=None` keeps them in memory, for this process only.

    `run` is the fingerprint of the run, see `run_fingerprint`; `for_run` gives another run's entries in the same file.
    Errors: StoreError, an InputError.
    """

    def __init__(self, path: str | Path | None = None, *, run: str = "") -> None:
        self._file = _File(path)
        self.run = run

    @property
    def path(self) -> Path | None:
        """The file, or None in memory."""
        return self._file.path

    def for_run(self, run: str) -> "Store":
        """The entries of another run, through the same connection."""
        other = object.__new__(Store)
        other._file = self._file
        other.run = run
        return other

    def put_record(self, key: str, value: Record) -> None:
        """Write a JSON value; numpy numbers and arrays become numbers and lists. On return it survives a kill."""
        try:
            text = json.dumps(value, default=_plain)
        except (TypeError, ValueError) as error:
            raise StoreError(self._place(key), f"is not a JSON value ({error}).", "Use put_blob for objects.") from None
        self._put(key, "record", text.encode())

    def get_record(self, key: str, default: Record = None) -> Record:
        """The JSON value written last under this key in this run, or `default`."""
        data = self._get(key, "record")
        return default if data is None else json.loads(data)

    def records(self, prefix: str = "") -> Iterator[tuple[str, Record]]:
        """(key, value) of all records of this run whose key begins with `prefix`, ordered by key."""
        for key in self.keys(prefix):
            value = self.get_record(key, _MISSING)
            if value is not _MISSING:  # deleted by another process, or a blob
                yield key, value

    def put_blob(self, key: str, value: object) -> None:
        """Pickle a value made of numpy arrays, plain values and this project's dataclasses."""
        data = pickle.dumps(value, protocol=5)
        self._put(key, "blob", data if len(data) < _COMPRESSED_FROM else zlib.compress(data, 1))

    def get_blob(self, key: str, default: Any = None) -> Any:
        """The object written last under this key in this run, or `default`."""
        data = self._get(key, "blob")
        if data is None:
            return default
        try:  # a pickle of this protocol begins with 0x80, compressed data with 0x78
            return _Unpickler(data if data[:1] == b"\x80" else zlib.decompress(data), self._place(key)).load()
        except (AttributeError, ImportError, IndexError, TypeError, ValueError, zlib.error, pickle.UnpicklingError) as error:
            raise StoreError(self._place(key), f"was written by another version ({error}).", self._file.advice) from None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """What is written inside is written as a whole: all of it survives a kill, or none of it."""
        with self._file.transaction():
            yield

    def keys(self, prefix: str = "") -> list[str]:
        """Keys of this run that begin with `prefix`, ordered."""
        rows = self._file.execute(
            "SELECT key FROM entry WHERE run = ? AND substr(key, 1, ?) = ? ORDER BY key", (self.run, len(prefix), prefix)
        )
        return [row[0] for row in rows]

    def delete(self, key: str) -> None:
        """Remove one entry; nothing happens if there is none."""
        self._file.execute("DELETE FROM entry WHERE run = ? AND key = ?", (self.run, key))

    def clear(self) -> None:
        """Remove every entry of this run."""
        self._file.execute("DELETE FROM entry WHERE run = ?", (self.run,))

    def close(self) -> None:
        """Close the connection, for every view on this file. What was kept in memory is gone."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        # To a worker process goes the address, not the connection.
        if self.path is None:
            raise StoreError("store in memory", "cannot be sent to another process.", "Give it a file.")
        return _reopen, (self.path, self.run)

    def _place(self, key: str) -> str:
        return f"{self._file.name}, entry {key!r}"

    def _put(self, key: str, kind: str, data: bytes) -> None:
        self._file.execute(
            "INSERT OR REPLACE INTO entry (run, key, kind, value, digest) VALUES (?, ?, ?, ?, ?)",
            (self.run, key, kind, data, _digest(self.run, key, kind, data)),
        )

    def _get(self, key: str, kind: str) -> bytes | None:
        rows = self._file.execute("SELECT value, digest FROM entry WHERE run = ? AND key = ? AND kind = ?", (self.run, key, kind))
        if not rows:
            return None
        data, digest = rows[0]
        if not isinstance(data, bytes) or digest != _digest(self.run, key, kind, data):
            raise StoreError(self._place(key), "is damaged: its checksum does not fit.", self._file.advice)
        return data


class _File:
    """One sqlite connection, opened again in a forked child, shared by threads behind a lock."""

    def __init__(self, path: str | Path | None) -> None:
        self.path = None if path is None else Path(path)
        self.name = "store in memory" if self.path is None else str(self.path)
        self.advice = f"Delete {self.name} (what it kept is computed again) or name another file."
        self._lock = threading.RLock()
        self._process = os.getpid()
        with self._errors():
            self._connection: sqlite3.Connection | None = self._open()

    def execute(self, statement: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        with self._lock, self._errors():
            return self._current().execute(statement, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._lock:
            try:
                self.execute("BEGIN IMMEDIATE", ())
                yield
                self.execute("COMMIT", ())
            finally:
                if self._connection is not None and self._connection.in_transaction:
                    self.execute("ROLLBACK", ())

    def close(self) -> None:
        with self._lock:
            if self._connection is not None and self._process == os.getpid():
                self._connection.close()
            self._connection = None

    def _current(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StoreError(self.name, "was closed.", "Open it again.")
        if self._process != os.getpid():  # sqlite connections must not cross a fork
            if self.path is None:
                raise StoreError(self.name, "was opened in another process.", "Give it a file.")
            _inherited.append(self._connection)
            self._connection, self._process = self._open(), os.getpid()
        return self._connection

    def _open(self) -> sqlite3.Connection:
        if self.path is not None and not self.path.parent.is_dir():
            raise StoreError(self.name, "stands in a folder that does not exist.", "Create the folder or name another file.")
        # isolation_level=None: every statement is its own transaction, on disk when it returns.
        connection = sqlite3.connect(self.path or ":memory:", timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        _retry_while_locked(lambda: connection.execute("BEGIN IMMEDIATE"))
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        if empty and application == 0:
            connection.execute(
                "CREATE TABLE entry (run TEXT NOT NULL, key TEXT NOT NULL, kind TEXT NOT NULL, value BLOB NOT NULL, digest BLOB NOT NULL, "
                "PRIMARY KEY (run, key))"
            )
            connection.execute(f"PRAGMA application_id = {_APPLICATION}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        elif application != _APPLICATION:
            raise StoreError(self.name, "is a database of another program.", "Name another file.")
        elif version != SCHEMA_VERSION:
            raise StoreError(
                self.name, f"has version {version} of the store's format, this program writes version {SCHEMA_VERSION}.", self.advice
            )
        connection.execute("COMMIT")
        _retry_while_locked(lambda: connection.execute("PRAGMA journal_mode = WAL"))
        connection.execute("PRAGMA synchronous = NORMAL")  # with WAL: a killed process loses nothing

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:  # locked, disk full, no permission: the file itself may be sound
            raise StoreError(
                self.name, f"cannot be used ({error}).", "Check that the disk has room and that the file may be written."
            ) from None
        except sqlite3.DatabaseError as error:
            raise StoreError(self.name, f"is damaged or not a store ({error}).", self.advice) from None


class _Unpickler(pickle.Unpickler):
    """Loads plain values, numpy arrays and this project's classes, and refuses everything else."""

    _numpy = frozenset({"_reconstruct", "ndarray", "dtype", "_frombuffer", "scalar"})
    _builtins = frozenset({"complex", "set", "frozenset", "slice", "range", "bytearray"})
    _standard = frozenset({("fractions", "Fraction"), ("pathlib", "PosixPath"), ("pathlib", "Path"), ("collections", "deque")})

    def __init__(self, data: bytes, place: str) -> None:
        super().__init__(io.BytesIO(data))
        self._place = place

    def find_class(self, module: str, name: str) -> Any:
        root = module.split(".", 1)[0]
        if root == "numpy":
            # Scalar types, and the helpers of array pickles; numpy also holds functions that run code.
            found = super().find_class(module, name) if "." not in name else None
            if name in self._numpy or (isinstance(found, type) and issubclass(found, np.generic)):
                return found
        elif (module, name) in self._standard or (module == "builtins" and name in self._builtins):
            return super().find_class(module, name)
        elif root in {"problems", "solvers", "verifier"} and "." not in name:
            found = super().find_class(module, name)
            if isinstance(found, type) and found.__module__ == module:
                return found
        elif module.startswith("scipy.sparse") and "." not in name and name.endswith(("_matrix", "_array")):
            return super().find_class(module, name)
        raise StoreError(
            self._place, f"holds an object of type {module}.{name}, which stores do not hold.", "Delete the entry or the file."
        )


def _reopen(path: Path, run: str) -> Store:
    return Store(path, run=run)


def _retry_while_locked(action: Any) -> None:
    # Opening and switching to WAL report a lock at once, whatever the time-out: another process is doing the same.
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            action()
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _digest(run: str, key: str, kind: str, data: bytes) -> bytes:
    return sha256(json.dumps([run, key, kind]).encode() + b"\n" + data).digest()[:16]


def _plain(value: object) -> object:
    """What `json` should write for a value that it does not know."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} is no JSON value")


def _canonical(value: object) -> str:
    def plain(item: object) -> object:
        if isinstance(item, np.ndarray):
            native = np.ascontiguousarray(item, dtype=item.dtype.newbyteorder("<"))
            return {"array": [str(item.dtype), list(item.shape), sha256(native.tobytes()).hexdigest()]}
        return _plain(item)

    return json.dumps(value, sort_keys=True, default=plain)
