"""Pictures of moved mass: the flow that is drawn is the flow between the images, and every picture can be drawn."""

from math import inf, nan
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import verifier
from problems import readers
from problems.data import load
from problems.errors import InputError
from problems.transport.flows import distance
from problems.transport.grid import Grid
from verifier.bracket import Bracket, Status
from verifier.cli import main
from verifier.radii import Radius
from verifier.report import transport


def two_images(seed: int, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Two images of the same mass in every channel, whole numbers."""
    rng = np.random.default_rng(seed)
    before = rng.integers(0, 5, (grid.channels, grid.pixels)).astype(float)
    before[:, 0] += 1
    after = rng.permuted(before, axis=1)
    return before.ravel(), after.ravel()


def row(grid: Grid, seed: int = 0, **change: object) -> transport.Moved:
    before, after = two_images(seed, grid)
    values = {"sample": seed, "label": 1, "lower": 0.1, "upper": 0.2, "bounds": 0.05, "attack": 0.25, "found": 2}
    return transport.Moved(**(values | {"before": before, "after": after} | change))


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(1, 3, 4), (1, 1, 6), (3, 2, 3)]), st.sampled_from(["l1", "l2"]))
def test_arrows_carry_one_image_to_the_other(seed: int, shape: tuple[int, int, int], ground: str) -> None:
    grid = Grid(*shape, ground)
    before, after = two_images(seed, grid)
    arrows = transport.arrows(before, after, grid)
    there = before.reshape(shape).sum(axis=0)
    mass = there.sum()
    for i, j, k, l, amount in arrows:  # noqa: E741
        there[int(i), int(j)] -= amount * mass
        there[int(k), int(l)] += amount * mass
    assert there == pytest.approx(after.reshape(shape).sum(axis=0), abs=1e-9)
    if ground == "l1" and shape[0] == 1:
        assert (np.abs(arrows[:, 2:4] - arrows[:, :2]).sum(axis=1) == 1).all()  # between neighbours
        assert arrows[:, 4].sum() * mass == pytest.approx(float(distance(before, after, grid).upper))


def test_no_arrows_without_a_flow() -> None:
    grid = Grid(1, 2, 2)
    same = np.array([1.0, 0.0, 0.0, 0.0])
    assert transport.arrows(same, same, grid).shape == (0, 5)
    assert transport.arrows(same, 2 * same, grid).shape == (0, 5)


def test_an_arrow_points_where_the_mass_goes() -> None:
    corners = transport._arrow(1.0, 2.0, 1.0, 3.0, 0.5)
    assert corners[3].tolist() == [1.0, 3.0]
    assert corners[[0, -1]].mean(axis=0).tolist() == [1.0, 2.0]


def test_rows_of_records() -> None:
    data, network = load("digits:test").select("3:5"), readers.load("digits-16x2")
    witness = data.x[1][::-1].copy()
    records = [
        Radius(4, int(data.y[1]), Bracket("min", 0.1, 0.2, Status.TIMED_OUT, witness, stats={"bounds": 0.05, "attack": 0.3})),
        Radius(3, int(data.y[0]), Bracket("min", inf, inf, Status.EMPTY)),
    ]
    first, second = transport.moved(records, data, network, {4: 0.02})
    assert (first.sample, first.after, first.found, first.vanilla, first.attack) == (3, None, None, None, inf)
    assert (second.lower, second.upper, second.bounds, second.attack, second.vanilla) == (0.1, 0.2, 0.05, 0.3, 0.02)
    logits = network.forward(witness[None])[0]
    assert second.found == np.argsort(logits)[-1 if logits.argmax() != data.y[1] else -2]
    assert (second.before == data.x[1]).all()


@pytest.mark.parametrize("shape", [(1, 4, 5), (3, 4, 4), (1, 20, 18)])
def test_pictures_are_drawn(shape: tuple[int, int, int], tmp_path: Path) -> None:
    grid = Grid(*shape)
    rows = [
        row(grid, 0),
        row(grid, 1, vanilla=0.01, lower=0.2),
        row(grid, 2, after=None, found=None, upper=inf, attack=inf),
        row(grid, 3, lower=0.0, upper=0.0, bounds=0.0),
    ]
    file = tmp_path / "all.png"
    transport.save(file, rows, grid)
    assert file.read_bytes().startswith(b"\x89PNG")
    transport.save(tmp_path / "one.svg", rows[:1], grid)
    assert "<svg" in (tmp_path / "one.svg").read_text()
    transport.save(tmp_path / "none.png", [rows[2], row(grid, 4, after=None, found=None, upper=inf)], grid)


def test_nothing_to_draw(tmp_path: Path) -> None:
    grid = Grid(1, 3, 3)
    with pytest.raises(InputError, match="nothing to show"):
        transport.save(tmp_path / "a.png", [row(grid, lower=0.0, upper=0.0)], grid)
    with pytest.raises(InputError, match=r"neither \.svg nor \.png"):
        transport.save(tmp_path / "a.pdf", [row(grid)], grid)


def test_section_of_the_page() -> None:
    grid = Grid(1, 3, 3)
    rows = [row(grid, 0), row(grid, 1, lower=0.2, vanilla=nan), row(grid, 2, lower=0.0, upper=0.0)]
    text = transport.section(rows, grid, "Mass 1 & pixels >= 0.")
    assert "Of 3 images 1 are misclassified" in text
    assert "Of the others 1 have a radius known to 1 %" in text
    assert "75 % of the distance" in text
    assert "Mass 1 &amp; pixels &gt;= 0." in text
    assert text.count("<tr>") == 4
    assert 'src="data:image/svg+xml' in text
    assert "<figure>" not in transport.section(rows[2:], grid, "")


def test_picture_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    data = load("digits:test").select("3:5")
    unit = {"ground": "l1", "pixels": "simplex", "configuration": "feasible", "mass": 1.0, "bounds": 0.1, "attack": 0.2}
    brackets = [Bracket("min", 0.1, 0.2, Status.BOUNDS_ONLY, x[::-1].copy(), stats=unit) for x in data.x]
    answers = [Radius(int(n), int(y), b) for n, y, b in zip(data.numbers, data.y, brackets, strict=True)]
    monkeypatch.setitem(verifier.__dict__, "radius", lambda *_, **__: iter(answers))
    command = ["radius", "--network", "digits-16x2", "--data", "digits:test", "--samples", "3:5", "--norm", "wasserstein", "--picture"]
    assert main([*command, str(tmp_path / "moved.png")]) == 0
    assert (tmp_path / "moved.png").stat().st_size > 10_000
    assert "moved.png: drawn." in capsys.readouterr().err
    assert main([*command, "moved.pdf"]) == 2
    assert "neither .svg nor .png" in capsys.readouterr().err
    assert main([*command[:8], "inf", *command[9:], "moved.png"]) == 2
    assert "goes with --norm wasserstein" in capsys.readouterr().err
    answers = [Radius(3, 3, Bracket("min", 0.0, 0.0, Status.CLOSED, data.x[0], stats=unit))]
    assert main([*command, str(tmp_path / "none.png")]) == 0
    assert "nothing to draw" in capsys.readouterr().err
    assert not (tmp_path / "none.png").exists()
