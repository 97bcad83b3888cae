"""The benchmark of attacks: its rows survive the file, and its tables say what was measured."""

from dataclasses import asdict
from math import inf
from pathlib import Path

import pytest

from benchmarks import attacks
from benchmarks.attack_tables import report
from problems.data import load

SUBJECT = attacks.Subject("digits-16x2", "digits-16x2", load("digits:test").select("0:12"))


def test_rows_tables_and_plot(tmp_path: Path) -> None:
    rows = [attacks.run(SUBJECT, "copies", 2.0, 0.3, "apgd", loss="dlr", steps=5)]
    rows += [attacks.run(SUBJECT, "copies", 2.0, 0.3, "wda", copies=k, loss="dlr", steps=5) for k in (1, 2)]
    rows += [attacks.run(SUBJECT, "allocation", inf, 0.02, "wda++", steps=5)]
    rows += [attacks.run(SUBJECT, "allocation", inf, 0.02, "wda++", allocation="random", seed=1, steps=5)]
    rows += [attacks.run(SUBJECT, "exact", 2.0, 0.1, "w-pgd", (0.5, 0.6), order=2.0, steps=5)]
    assert rows[0].accuracy == rows[1].accuracy
    assert [row.threat for row in rows] == ["point-wise", *["Omega_1"] * 4, "Omega_2"]
    file = tmp_path / "attacks.csv"
    attacks.begin(file, list(asdict(rows[0])))
    with file.open("a", encoding="utf-8", newline="") as stream:
        for row in [*rows, rows[0]]:  # of two lines for one attack the last counts
            attacks.csv.writer(stream).writerow(asdict(row).values())
    again = attacks.read(file)
    assert len(again) == len(rows)
    assert [str(row) for row in again] == [str(row) for row in rows]
    assert (again[-1].exact_lower, again[-1].exact_upper) == (0.5, 0.6)
    report(again, file)
    text = file.with_suffix(".md").read_text(encoding="utf-8")
    assert f"| digits-16x2 | 12 | 2 | 0.3 | dlr | {100 * rows[0].clean:.2f} | {100 * rows[0].accuracy:.2f} |" in text
    assert "Omega_2" in text
    assert file.with_suffix(".png").stat().st_size > 1000


def test_unknown_experiments_are_named(capsys: pytest.CaptureFixture) -> None:
    assert attacks.main(["--only", "magic"]) == 2
    assert "magic" in capsys.readouterr().err


def test_mnist_is_left_out_where_it_is_absent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(attacks, "MNIST", tmp_path / "nowhere")
    assert list(attacks.mnist(("fc_3x100",), "0:2")) == []
    assert "absent" in capsys.readouterr().err
