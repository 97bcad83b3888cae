"""The store: what was written is read back exactly or refused, whoever writes beside it and however it dies."""

import math
import multiprocessing
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from problems.errors import InputError, NetworkError
from problems.maps import Dense
from verifier.search.store import Store, StoreError, run_fingerprint

ROOT = Path(__file__).resolve().parents[2]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(JSON, st.text())
def test_records_come_back_exactly(value: object, key: str) -> None:
    store = Store()
    store.put_record(key, value)
    assert store.get_record(key) == value
    assert store.keys() == [key]


def test_numpy_values_become_plain_numbers(tmp_path: Path) -> None:
    with Store(tmp_path / "store.sqlite", run="a") as store:
        store.put_record("one", {"x": np.array([0.1, -math.inf]), "n": np.int64(3), "r": np.float64(1 / 3)})
        assert store.get_record("one") == {"x": [0.1, -math.inf], "n": 3, "r": 1 / 3}


def test_blobs_hold_arrays_and_project_classes() -> None:
    store = Store()
    weights = np.random.default_rng(0).normal(size=(3, 2))
    store.put_blob("node", {"map": Dense(weights), "exact": Fraction(1, 3), "seen": {1, 2}, "scalar": np.float64(0.1)})
    back = store.get_blob("node")
    assert np.array_equal(back["map"].weights, weights)
    assert back["exact"] == Fraction(1, 3)
    assert back["seen"] == {1, 2}
    assert back["scalar"] == 0.1


class _Dangerous:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("exit 1",)


@pytest.mark.parametrize("value", [_Dangerous(), np.load, eval, subprocess.Popen, Path.unlink])
def test_blobs_that_could_run_code_are_refused(value: object) -> None:
    store = Store()
    store.put_blob("checkpoint", value)
    with pytest.raises(StoreError, match="which stores do not hold"):
        store.get_blob("checkpoint")


def test_what_is_missing_gives_the_default() -> None:
    store = Store()
    store.put_record("a", None)
    assert store.get_record("b", 7) == 7
    assert store.get_record("a", 7) is None
    assert store.get_blob("a", 7) == 7  # a record is no blob


def test_runs_never_mix(tmp_path: Path) -> None:
    one = Store(tmp_path / "store.sqlite", run=run_fingerprint("net", "radius", norm="inf"))
    two = one.for_run(run_fingerprint("net", "radius", norm="2"))
    one.put_record("sample/0", 0.25)
    assert two.get_record("sample/0") is None
    two.put_record("sample/0", 0.5)
    two.put_record("sample/1", 0.75)
    assert dict(one.records("sample/")) == {"sample/0": 0.25}
    two.clear()
    assert two.keys() == []
    assert one.keys() == ["sample/0"]
    one.delete("sample/0")
    assert one.keys() == []


def test_fingerprints_tell_options_apart_and_ignore_their_order() -> None:
    base = run_fingerprint("net", "radius", norm="inf", lower=np.zeros(3), tolerance=1e-6)
    assert base == run_fingerprint("net", "radius", tolerance=1e-6, lower=np.zeros(3), norm="inf")
    others = [
        run_fingerprint("net2", "radius", norm="inf", lower=np.zeros(3), tolerance=1e-6),
        run_fingerprint("net", "dro", norm="inf", lower=np.zeros(3), tolerance=1e-6),
        run_fingerprint("net", "radius", norm="2", lower=np.zeros(3), tolerance=1e-6),
        run_fingerprint("net", "radius", norm="inf", lower=np.zeros(4), tolerance=1e-6),
        run_fingerprint("net", "radius", norm="inf", lower=np.zeros(3), tolerance=math.nextafter(1e-6, 1)),
        run_fingerprint("net", "radius", norm="inf", lower=np.zeros(3)),
    ]
    assert len({base, *others}) == 7


def test_killed_writer_loses_nothing_it_had_written(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    script = (
        "import sys; from verifier.search.store import Store\n"
        "store = Store(sys.argv[1], run='r')\n"
        "for i in range(10**9):\n    store.put_record(f'{i:06}', i / 7); print(i, flush=True)\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert writer.stdout is not None
    seen = -1
    for line in writer.stdout:
        seen = int(line)
        if seen >= 50:
            writer.send_signal(signal.SIGKILL)
            break
    writer.wait()
    writer.stdout.close()
    records = dict(Store(path, run="r").records())
    assert len(records) > seen >= 50
    assert all(value == int(key) / 7 for key, value in records.items())


def _write_many(path: Path, worker: int) -> None:
    with Store(path, run="shared") as store:
        for i in range(40):
            store.put_record(f"{worker}/{i}", [worker, i])


def test_two_processes_open_and_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_write_many, args=(path, worker)) for worker in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert len(Store(path, run="shared").keys()) == 80


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_uses_its_own_connection(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.sqlite", run="r")
    store.put_record("parent", 1)
    worker = multiprocessing.get_context("fork").Process(target=lambda: store.put_record("child", store.get_record("parent") + 1))
    worker.start()
    worker.join()
    assert worker.exitcode == 0
    assert store.get_record("child") == 2


def test_a_store_can_be_sent_to_a_worker(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.sqlite", run="r")
    store.put_record("a", 1)
    assert pickle.loads(pickle.dumps(store)).get_record("a") == 1
    with pytest.raises(StoreError, match="another process"):
        pickle.dumps(Store())


def test_a_flipped_byte_is_an_error_not_a_result(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with Store(path, run="r") as store:
        store.put_record("radius", 0.125)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE entry SET value = ?", (b"0.225",))
    connection.close()
    with pytest.raises(StoreError, match="checksum") as caught:
        Store(path, run="r").get_record("radius")
    assert "Delete" in caught.value.advice


def _text_file(path: Path) -> None:
    path.write_text("this is no database, it is a text that somebody left here\n" * 100)


def _truncated(path: Path) -> None:
    with Store(path, run="r") as store:
        for i in range(200):
            store.put_record(str(i), "x" * 200)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 3])


def _other_program(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()


def _other_version(path: Path) -> None:
    Store(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()


@pytest.mark.parametrize(
    ("make", "words"),
    [(_text_file, "damaged or not a store"), (_truncated, "damaged"), (_other_program, "another program"), (_other_version, "version 99")],
)
def test_files_that_are_no_sound_store_are_refused(tmp_path: Path, make: object, words: str) -> None:
    path = tmp_path / "store.sqlite"
    make(path)  # type: ignore[operator]
    with pytest.raises(InputError, match=words) as caught:
        list(Store(path, run="r").records())
    assert str(path) in str(caught.value)


def test_paths_that_cannot_hold_a_store_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="folder that does not exist"):
        Store(tmp_path / "absent" / "store.sqlite")
    with pytest.raises(StoreError, match="cannot be used"):
        Store(tmp_path)


def test_values_that_are_no_json_are_refused() -> None:
    with pytest.raises(StoreError, match="not a JSON value"):
        Store().put_record("a", NetworkError("a", "b"))


def test_a_closed_store_says_so() -> None:
    store = Store()
    store.close()
    with pytest.raises(StoreError, match="was closed"):
        store.get_record("a")
