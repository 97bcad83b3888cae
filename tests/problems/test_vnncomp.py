"""Folders in the form of the verification competition."""

from pathlib import Path

import pytest

from problems.errors import SpecificationError
from problems.vnncomp import network_field, read_instances


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("onnx/a.onnx", "onnx/b.onnx.gz", "vnnlib/p.vnnlib", "vnnlib/q.vnnlib.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    write(tmp_path, "onnx/a.onnx,vnnlib/p.vnnlib,116\n\n./onnx/b.onnx , vnnlib/q.vnnlib,2.5\r\nonnx/a.onnx,vnnlib/q.vnnlib.gz,1\n")
    return tmp_path


def write(folder: Path, instances: str, truth: str | None = None) -> None:
    (folder / "instances.csv").write_text(instances)
    if truth is not None:
        (folder / "truth.csv").write_text(truth)


def test_instances_without_truth(folder: Path) -> None:
    first, second, third = read_instances(folder)
    assert (first.network, first.specification) == (folder / "onnx/a.onnx", folder / "vnnlib/p.vnnlib")
    assert (second.network, second.specification) == (folder / "onnx/b.onnx.gz", folder / "vnnlib/q.vnnlib.gz")
    assert [instance.timeout for instance in (first, second, third)] == [116, 2.5, 1]
    assert [instance.truth for instance in (first, second, third)] == [None] * 3
    assert [instance.name for instance in (first, second, third)] == ["a, p", "b, q", "a, q"]


def test_truth_is_found_by_file_names(folder: Path) -> None:
    (folder / "truth.csv").write_text("vnnlib,note,onnx,truth\nq.vnnlib,,b.onnx,sat\nq.vnnlib,,a.onnx.gz,unknown\n")
    assert [instance.truth for instance in read_instances(str(folder))] == [None, "sat", "unknown"]


@pytest.mark.parametrize(
    ("instances", "truth", "place", "problem"),
    [
        ("", None, "instances.csv", "lists no instances"),
        ("onnx/a.onnx,vnnlib/p.vnnlib\n", None, "instances.csv, line 1", "has 2 columns"),
        ("\nonnx/a.onnx,vnnlib/p.vnnlib,soon\n", None, "instances.csv, line 2", "time limit 'soon'"),
        ("onnx/a.onnx,vnnlib/p.vnnlib,nan\n", None, "instances.csv, line 1", "time limit 'nan'"),
        ("onnx/a.onnx,vnnlib/p.vnnlib,0\n", None, "instances.csv, line 1", "time limit '0'"),
        ("onnx/c.onnx,vnnlib/p.vnnlib,1\n", None, "instances.csv, line 1", "'onnx/c.onnx' does not exist"),
        ("onnx/a.onnx,,1\n", None, "instances.csv, line 1", "'' does not exist"),
        ("onnx/a.onnx,vnnlib/p.vnnlib,1\n", "onnx,vnnlib\n", "truth.csv, line 1", "has no column 'truth'"),
        ("onnx/a.onnx,vnnlib/p.vnnlib,1\n", "", "truth.csv, line 1", "has no column 'onnx'"),
        ("onnx/a.onnx,vnnlib/p.vnnlib,1\n", "onnx,vnnlib,truth\na.onnx,p.vnnlib,maybe\n", "truth.csv, line 2", "truth is 'maybe'"),
        ("onnx/a.onnx,vnnlib/p.vnnlib,1\n", "onnx,vnnlib,truth\na.onnx,p.vnnlib\n", "truth.csv, line 2", "has 2 columns"),
        (
            "onnx/a.onnx,vnnlib/p.vnnlib,1\n",
            "onnx,vnnlib,truth\na.onnx,p.vnnlib,sat\na.onnx,p.vnnlib,unsat\n",
            "truth.csv, line 3",
            "contradicts an earlier line",
        ),
    ],
)
def test_malformed_tables(folder: Path, instances: str, truth: str | None, place: str, problem: str) -> None:
    write(folder, instances, truth)
    with pytest.raises(SpecificationError) as caught:
        read_instances(folder)
    assert caught.value.place == str(folder / place)
    assert problem in caught.value.problem


def test_folder_without_table(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(SpecificationError, match=r"instances\.csv: does not exist"):
            read_instances(folder)


def test_table_that_is_no_text(folder: Path) -> None:
    (folder / "instances.csv").write_bytes(b"\xff\xfe\x00\x00")
    with pytest.raises(SpecificationError, match="cannot be read"):
        read_instances(folder)


@pytest.mark.parametrize(
    ("name", "count", "decided"), [("acasxu", 186, 186), ("mnist_fc", 90, 86), ("oval21", 30, 29), ("sri_resnet_a", 72, 32)]
)
def test_benchmark_folders(shared_data: Path, name: str, count: int, decided: int) -> None:
    instances = read_instances(shared_data / "vnncomp" / name)
    assert len(instances) == count
    assert all(instance.truth in ("sat", "unsat", "unknown") for instance in instances)
    assert all(instance.network.is_file() and instance.specification.is_file() for instance in instances)
    assert sum(instance.truth != "unknown" for instance in instances) == decided


def test_fields_of_several_networks(folder: Path) -> None:
    """VNN-LIB 2.0 names its networks in the table: [('f', 'onnx/a.onnx')]."""
    write(folder, "\"[('f', 'onnx/b.onnx')]\",vnnlib/p.vnnlib,116\n")
    (instance,) = read_instances(folder)
    assert (instance.network, instance.name) == (folder / "onnx/b.onnx.gz", "b, p")
    write(folder, "\"[('f', 'onnx/a.onnx'), ('g', 'onnx/b.onnx')]\",vnnlib/p.vnnlib,116\n")
    with pytest.raises(SpecificationError, match="names 2 networks"):
        read_instances(folder)
    for name in ("[1] a.onnx", "['f']", "[('f', 3)]", "[", "[('f', 'a'"):
        assert network_field(name) == name
    assert network_field(f" {[('f', 'a b/ü.onnx')]!r}") == "a b/ü.onnx"
