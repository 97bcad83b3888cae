"""The command and the function `cells`: counts, budgets, workers, interrupts, regions, bad input."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import verifier
from problems.errors import InputError
from problems.maps import Conv, Dense
from problems.network import Network, sequential
from problems.regions import Ball, Box, Polytope
from tests.verifier.cell_oracles import by_patterns, by_vertices
from tests.verifier.command_line import answers
from tests.verifier.oracles import random_network
from verifier.bracket import Status
from verifier.cli import cells, main
from verifier.enumeration import fold, stream_batches
from verifier.enumeration.count import Above
from verifier.search.budget import Budget

# Rows of ../shared/data/lipschitz/reference.csv, all of which are told by the same search; the largest takes a second.
REFERENCE = [("r2_16_16_2", 1.0), ("t2_16_16_2", 1.0), ("t4_32_32_3", 0.5), ("d64_32_32_10", 0.1), ("lb_sd_10_30x3_3", 0.05)]


def random_chain(sizes: list[int], seed: int) -> Network:
    generator = np.random.default_rng(seed)
    maps = [Dense(generator.normal(size=(b, a)) / np.sqrt(a)) for a, b in pairwise(sizes)]
    return sequential(maps, [generator.normal(size=b) * 0.3 for b in sizes[1:]])


@pytest.mark.parametrize(("name", "radius"), REFERENCE)
def test_reference_counts(name: str, radius: float, shared_data: Path, capsys: pytest.CaptureFixture) -> None:
    file = shared_data / "lipschitz" / f"{name}.npz"
    lines = (shared_data / "lipschitz" / "reference.csv").read_text(encoding="utf-8").splitlines()
    expected = {tuple(line.split(",")[:2]): int(line.split(",")[2]) for line in lines[1:]}[(name, str(radius))]
    region = ["--box-center", str(file), "--radius", str(radius)]
    assert main(["cells", "--network", str(file), *region, "--json", "--workers", "1"]) == 0
    (answer,) = answers(capsys)
    assert answer["cells"] == expected
    assert answer["complete"] is True
    assert answer["status"] == "closed"
    assert answer["thin"] == 0


def test_workers_count_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Subtrees behind the position that the first worker reached alone."""
    network, box = random_chain([3, 10, 10, 2], 0), Box(-np.ones(3), np.ones(3))
    alone = verifier.cells(network, box, workers=1)
    assert alone.complete
    monkeypatch.setattr(fold, "ALONE", 0.0)
    together = verifier.cells(network, box, workers=2)
    assert together.complete
    assert together.cells == alone.cells > 100
    start = next(stream_batches(network, box, size=alone.cells // 2)).patterns[-1]
    rest = list(fold.fold_cells(network, box, Above(1e-9), (0, 0), start=start))
    assert sum(part.state[0] for part in rest) == alone.cells - alone.cells // 2


def test_prefixes_part_the_cells() -> None:
    network, ball = random_chain([3, 6, 6, 2], 1), Ball(np.zeros(3), 1.0, 1)
    whole = {tuple(p) for batch in stream_batches(network, ball) for p in batch.patterns.tolist()}
    parts = [
        [tuple(p) for batch in stream_batches(network, ball, prefix=prefix) for p in batch.patterns.tolist()]
        for prefix in fold.prefixes(network, ball, 8)
    ]
    assert len(parts) >= 8
    assert sorted(p for part in parts for p in part) == sorted(whole)


def test_a_budget_leaves_a_part_and_a_place_to_go_on() -> None:
    network, box = random_chain([4, 16, 16, 2], 2), Box(-np.ones(4), np.ones(4))
    none = verifier.cells(network, box, timeout=0.0)
    assert (none.cells, none.complete, none.status) == (0, False, Status.TIMED_OUT)
    stream = stream_batches(network, box, budget=Budget(timeout=60.0), size=50)
    first = next(stream)
    stream.budget.interrupt.set()  # type: ignore[attr-defined]
    assert sum(map(len, stream)) == 0
    assert not stream.complete
    rest = verifier.cells(network, box, start=first.patterns[-1], workers=1)
    assert rest.complete
    assert rest.cells + 50 == verifier.cells(network, box, workers=1).cells


def test_a_thin_cell_shapes_the_printed_count_only() -> None:
    """Two parallel rows 1e-10 apart: a full cell, which the tolerance of 1e-9 does not count."""
    network = sequential([Dense(np.ones((2, 1))), Dense(np.ones((1, 2)))], [np.zeros(2) + [0.0, 1e-10], np.zeros(1)])
    box = Box(-np.ones(1), np.ones(1))
    count = verifier.cells(network, box)
    assert (count.cells, count.thin) == (2, 1)
    assert verifier.cells(network, box, tolerance=1e-12).cells == 3
    assert len(next(stream_batches(network, box))) == 3


def test_networks_that_are_no_chains() -> None:
    """Convolutions and residual connections: rows are composed over the graph, and the answers are those of the brute force."""
    generator = np.random.default_rng(11)
    conv = Conv(generator.normal(size=(2, 1, 2, 2)), (1, 3, 2))
    network = sequential([conv, Dense(generator.normal(size=(3, conv.out_size)))], [generator.normal(size=conv.out_size), np.zeros(3)])
    box = Box(-np.ones(6), np.ones(6))
    assert verifier.cells(network, box, workers=1).cells == len(by_patterns(network, box))
    residual = next(
        network for seed in range(100) if (network := random_network(np.random.default_rng(seed), most_inputs=2)).name == "residual"
    )
    square = Box(-2.0 * np.ones(residual.input_size), np.ones(residual.input_size))
    assert verifier.cells(residual, square, workers=1).cells == len(by_vertices(residual, square))


def test_polytopes(write: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    network = random_chain([2, 6, 4, 2], 3)
    triangle = Polytope(Box(np.zeros(2), np.ones(2)), np.array([[-1.0, -1.0]]), np.array([1.0]))
    expected = len(by_patterns(network, triangle))
    assert verifier.cells(network, triangle).cells == expected
    cone = Polytope(Box.whole_space(2), np.array([[1.0, -2.0], [-1.0, 3.0]]), np.zeros(2))
    assert verifier.cells(network, cone).cells == len(by_patterns(network, cone))
    arrays = {"L": 3}
    for k, node in enumerate(network.nodes[1::2]):
        arrays |= {f"W{k}": node.maps[0].weights, f"b{k}": node.bias}  # type: ignore[union-attr]
    np.savez(tmp_path / "network.npz", **arrays)
    bounds = "".join(f"(assert (>= X_{i} 0.0))(assert (<= X_{i} 1.0))" for i in range(2))
    names = "".join(f"(declare-const X_{i} Real)(declare-const Y_{i} Real)" for i in range(2))
    (tmp_path / "region.vnnlib").write_text(f"{names}{bounds}(assert (<= (+ X_0 X_1) 1.0))(assert (>= Y_0 0.0))")
    command = ["cells", "--network", str(tmp_path / "network.npz"), "--region", str(tmp_path / "region.vnnlib"), "--json"]
    assert main(command) == 0
    assert answers(capsys)[0]["cells"] == expected


def test_oracle_on_the_plane() -> None:
    """THEORY 9: 8 full cells of 16 on R^2."""
    first = np.array([[-0.6436, 0.3784], [0.7196, 1.7698], [1.3441, 1.0055], [-0.3510, -0.7537]])
    network = sequential([Dense(first), Dense(np.ones((2, 4)))], [np.zeros(4), np.zeros(2)])
    assert verifier.cells(network).cells == 8


def test_bad_input(capsys: pytest.CaptureFixture) -> None:
    assert main(["cells", "--network", "digits-16x2"]) == 2
    assert main(["cells", "--network", "digits-16x2", "--box", "1", "0"]) == 2
    assert "region" in capsys.readouterr().err
    with pytest.raises(InputError, match="dimension"):
        verifier.cells("digits-16x2", Box(np.zeros(3), np.ones(3)))
    with pytest.raises(InputError, match="semantics"):
        verifier.cells("digits-16x2", Box(np.zeros(64), np.ones(64)), semantics="float32")


def test_an_interrupt_gives_what_was_counted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """Ctrl-C in the middle, alone and with workers, by function and by command."""
    network, box = random_chain([4, 16, 16, 2], 4), Box(-np.ones(4), np.ones(4))

    def interrupt(cells: int) -> None:
        if cells > 0:
            signal.raise_signal(signal.SIGINT)

    @contextmanager
    def watching() -> Iterator[Callable[[int], None]]:
        yield interrupt

    for workers in (1, 2):
        count = verifier.cells(network, box, workers=workers, progress=interrupt)
        assert count.status is Status.INTERRUPTED
        assert not count.complete
        assert count.cells > 0
    monkeypatch.setattr(cells, "enumerating", watching)
    assert main(["cells", "--network", "digits-16x2", "--box", "0", "1", "--json"]) == 0
    (answer,) = answers(capsys)
    assert answer["complete"] is False
    assert answer["status"] == "interrupted"
    assert answer["cells"] > 0
