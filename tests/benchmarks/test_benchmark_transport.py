"""The tables of benchmarks.transport: what they average, and the file they are read from."""

from math import inf
from pathlib import Path

from benchmarks.transport import Row, begin, correct, keep, main, plot, read, table

ROWS = [
    Row("net", 3, 7, "frank-wolfe", 0.0, 0.10, 0.05, "found"),
    Row("net", 4, 2, "frank-wolfe", 0.0, 0.20, 0.05, "found"),
    Row("net", 3, 7, "vanilla", 0.02, inf, 0.1, "bounds-only"),
    Row("net", 4, 2, "vanilla", 0.05, inf, 0.1, "bounds-only"),
    Row("net", 3, 7, "feasible", 0.04, inf, 0.5, "bounds-only"),
    Row("net", 4, 2, "feasible", 0.15, inf, 0.5, "bounds-only"),
    Row("net", 3, 7, "exact", 0.0999, 0.10, 9.0, "closed"),
    Row("net", 4, 2, "exact", 0.16, 0.20, 60.0, "timed-out"),
]


def test_table() -> None:
    text = table("net", ROWS)
    assert "feasible / vanilla           of means 2.7143; per image mean 2.5000" in text
    assert "certified / attack           of means 0.8663" in text
    assert "closed to 1 %: 50% of 2 images; to the tolerance: 1" in text
    assert "PROBABILISTIC" not in text
    assert "PROBABILISTIC" in table("net", [Row("net", 0, 1, "smoothing-tight", 0.01, inf, 0.3, "confidence-0.95")])


def test_results_are_kept_and_shown(tmp_path: Path, capsys) -> None:
    file, picture = tmp_path / "results.csv", tmp_path / "brackets.png"
    begin(file, "net")
    assert keep(iter(ROWS), file) == ROWS
    begin(file, "a second run")
    assert read(file) == ROWS
    plot(ROWS, picture)
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert main(["--show", str(file)]) == 0
    assert capsys.readouterr().out == table("net", ROWS) + "\n"


def test_only_images_that_are_classified_rightly() -> None:
    network, data = correct("digits-16x2", Path(), 30)
    assert len(data) == 30
    assert (network.forward(data.x).argmax(1) == data.y).all()
    assert data.numbers[-1] > 29  # sample 5 is misclassified
