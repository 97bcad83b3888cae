"""The tightness audit over networks: the oracles of THEORY section 9, brute force over all patterns, budgets, data, the command."""

import json
from fractions import Fraction
from math import inf, sqrt
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import linprog

import verifier
from problems.data import Dataset
from problems.errors import InputError, NetworkError, RegionError
from problems.maps import Dense
from problems.network import Affine, Input, Network, Relu
from problems.regions import Ball, Box, Polytope
from tests.verifier import tightness_oracles as oracle
from tests.verifier.command_line import answers
from verifier import tightness
from verifier.bracket import Status
from verifier.cli import main
from verifier.enumeration import cell_rows
from verifier.recession.audit import path_bound
from verifier.recession.infinity import slope_at_infinity
from verifier.recession.region import directions
from verifier.recession.rows import linear_parts
from verifier.recession.slope import slope
from verifier.recession.space import Cells
from verifier.search.budget import Budget

NORMS = (1.0, 2.0, inf)


def near(bracket, value):
    """Whether a closed bracket holds the value."""
    assert bracket.status is Status.CLOSED
    assert bracket.lower <= value * (1 + 1e-9) + 1e-12
    assert bracket.upper >= value * (1 - 1e-9) - 1e-12
    return bracket.upper - bracket.lower <= 1e-6 * value + 1e-9


@pytest.mark.parametrize(
    ("network", "norm", "labels", "constants", "counts"),
    [
        (oracle.IDENTITY, 2, [0], (sqrt(2), 1.0, 1.0), (4, 4, 1)),
        (oracle.IDENTITY, 1, [0], (1.0, 1.0, 1.0), (4, 4, 2)),
        (oracle.IDENTITY, inf, [0], (2.0, 1.0, 1.0), (4, 4, 1)),
        (oracle.MINIMUM, 2, [0], (1.0, 0.0, sqrt(0.5)), (4, 4, 0)),
        (oracle.MINIMUM, 1, [0], (1.0, 0.0, 0.5), (4, 4, 0)),
        (oracle.MINIMUM, inf, [0], (1.0, 1.0, 1.0), (4, 4, 2)),
        (oracle.LINEAR, 2, None, (sqrt(13.0), sqrt(13.0), sqrt(13.0)), (1, 1, 1)),
        (oracle.LINEAR, 1, None, (3.0, 3.0, 3.0), (1, 1, 1)),
        (oracle.LINEAR, inf, [0], (4.0, 4.0, 4.0), (1, 1, 1)),
    ],
)
def test_oracles(network, norm, labels, constants, counts):
    audit = tightness(network, None, norm, labels=labels)
    assert near(audit.lipschitz, constants[0])
    assert near(audit.tight_slope, constants[1])
    assert near(audit.slope_at_infinity, constants[2])
    assert (audit.cells, audit.unbounded_cells, audit.tight_cells) == counts
    assert audit.complete
    assert audit.reason is None


def test_four_neurons():
    """8 of 16 patterns; the steepest direction of label 0 stays in its cell for ever, that of label 1 goes nowhere."""
    right, wrong = (tightness(oracle.FOUR_NEURONS, None, 2, labels=[label]) for label in (0, 1))
    for audit in (right, wrong):
        assert audit.cells == audit.unbounded_cells == 8
        assert audit.lipschitz.upper == pytest.approx(5.5953, abs=5e-5)
    assert near(right.tight_slope, right.lipschitz.upper)
    assert near(right.slope_at_infinity, right.lipschitz.upper)
    assert (wrong.tight_cells, wrong.tight_slope.upper, wrong.slope_at_infinity.lower) == (0, 0.0, 0.0)
    assert wrong.slope_at_infinity.upper < 1e-9
    assert right.tightest is not None
    assert right.tightest.pair == (0, 1)
    direction = right.slope_at_infinity.witness / np.linalg.norm(right.slope_at_infinity.witness)
    assert direction @ right.steepest.gradient == pytest.approx(5.5953, abs=5e-5)


REGIONS = {
    "all": Box.whole_space(2),
    "half": Box([-inf, -0.5], [inf, inf]),
    "quadrant at the origin": Box([0.0, -inf], [inf, 0.0]),
    "strip": Box([-1.0, -inf], [1.0, inf]),
}


def brute_force(network, region, norm, pairs):
    """(L, l, kappa*, cells, unbounded, tight, layers) by general solvers over all patterns."""
    lower, upper = region.bounding_box()
    fixed = np.isfinite(lower) & np.isfinite(upper)
    sizes = [network.nodes[i].size for i in network.relus]
    steep, tight_slope, infinity, counts, depths = 0.0, 0.0, 0.0, np.zeros(3, dtype=int), np.zeros(len(sizes))
    for pattern in oracle.full_patterns(network, lower, upper):
        rows = oracle.recession_rows(network, pattern, lower, upper)
        rows = np.concatenate([rows, np.eye(len(lower))[fixed], -np.eye(len(lower))[fixed]])
        tight = False
        depth = np.zeros(len(sizes), dtype=bool)
        for pair in pairs:
            g = oracle.gradient(network, pattern, pair)
            size = oracle.dual_norm(g, norm)
            if size < 1e-12:
                continue
            steep = max(steep, size)
            reached = oracle.cone_slope(rows, g, norm)
            infinity = max(infinity, reached)
            if reached > (1 - 1e-6) * size:
                tight, tight_slope = True, max(tight_slope, size)
            for layer in range(len(sizes)):
                own = rows[: sum(sizes[: layer + 1])]
                if oracle.cone_slope(own, g, norm) <= (1 - 1e-6) * size:
                    break
                depth[layer] = True
        counts += (1, oracle.has_direction(rows), tight)
        depths += depth
    return steep, tight_slope, infinity, counts.tolist(), (depths / counts[0]).tolist()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("seed", "region"), list(enumerate(REGIONS.values())), ids=REGIONS.keys())
def test_brute_force(norm, region, seed):
    network = oracle.random_network(seed, 2, 3, 3, 2, biased=seed != 2)
    pairs = oracle.pairs(network)
    steep, tight_slope, infinity, counts, layers = brute_force(network, region, norm, pairs)
    audit = tightness(network, region, norm)
    assert audit.lipschitz.upper == pytest.approx(steep, rel=1e-9)
    assert audit.tight_slope.lower == pytest.approx(tight_slope, rel=1e-9)
    assert audit.slope_at_infinity.lower == pytest.approx(infinity, abs=2e-6)
    assert audit.slope_at_infinity.upper == pytest.approx(infinity, abs=2e-6)
    assert [audit.cells, audit.unbounded_cells, audit.tight_cells] == counts
    assert audit.layers == pytest.approx(layers)
    assert audit.undecided == 0
    assert audit.tight_slope.lower <= audit.slope_at_infinity.upper
    assert audit.slope_at_infinity.lower <= audit.lipschitz.upper


@pytest.mark.parametrize("norm", NORMS)
def test_slope_at_infinity_is_the_largest_over_the_cells(norm):
    """The network without biases gives the maximum of (T4) over the cells of the network with them."""
    network = oracle.random_network(21, 2, 5, 4, 3)
    region = Box.whole_space(2)
    where, pairs = directions(region), oracle.pairs(network)
    best = 0.0
    for seen in Cells(network, region, Budget()):
        parts = linear_parts(network, seen.cells.patterns[seen.counts])
        for b in range(len(parts)):
            for pair in pairs:
                best = max(best, slope(network, parts.select(np.array([b])), tuple(pair), norm, where)[0])
    found = slope_at_infinity(network, pairs, norm, where, budget=Budget())
    assert found.status is Status.CLOSED
    assert found.lower == pytest.approx(best, rel=1e-6)
    assert best <= found.upper


SYMMETRIC = oracle.chain(([[1, -1], [1, 1], [1, 0], [0, 1]], [0, 0, -1, -1]), ([[1, -1, 2, 3], [0, 1, -1, 1]], [0, 0]))


@pytest.mark.parametrize("region", REGIONS.values(), ids=REGIONS.keys())
@pytest.mark.parametrize(
    "network",
    [SYMMETRIC, oracle.random_network(1, 2, 4, 3, 2), oracle.random_network(1, 2, 4, 3, 2, biased=False)],
    ids=["symmetric", "a", "b"],
)
def test_every_cell_once(network, region):
    stream = Cells(network, region, Budget())
    found = [tuple(p) for seen in stream for p in seen.cells.patterns[seen.cells.certified & seen.counts]]
    assert stream.complete
    assert sorted(found) == sorted(tuple(p) for p in oracle.full_patterns(network, *region.bounding_box()))


def residual() -> Network:
    """x -> relu(W x + b) + x, then a layer: not a chain."""
    first, second = np.array([[1.0, 0.5], [-0.3, 1.0]]), np.array([[1.0, -1.0], [0.5, 1.0]])
    nodes = (
        Input(2),
        Affine((0,), (Dense(first),), np.array([0.2, -0.1])),
        Relu(1, 2),
        Affine((2, 0), (Dense(second), Dense(np.eye(2))), np.array([0.1, 0.3])),
        Relu(3, 2),
        Affine((4, 2), (Dense(np.array([[1.0, 2.0], [0.0, -1.0]])), Dense(np.eye(2))), np.zeros(2)),
    )
    return Network(nodes, (2,), (2,))


@pytest.mark.parametrize("region", [REGIONS["all"], REGIONS["half"]], ids=["all", "half"])
def test_networks_that_are_no_chains(region):
    network = residual()
    steep, tight_slope, infinity, counts, _ = brute_force(network, region, 2.0, oracle.pairs(network))
    audit = tightness(network, region, 2)
    assert (audit.lipschitz.upper, audit.tight_slope.lower) == (pytest.approx(steep), pytest.approx(tight_slope))
    assert audit.slope_at_infinity.lower == pytest.approx(infinity, abs=1e-6)
    assert [audit.cells, audit.unbounded_cells, audit.tight_cells] == counts


def test_bounded_regions_say_why():
    for region in (Box(-np.ones(2), np.ones(2)), Ball(np.zeros(2), 1.0, 2), Ball(np.ones(2), 0.5, 1)):
        audit = tightness(oracle.FOUR_NEURONS, region, 2)
        assert audit.lipschitz.upper == pytest.approx(5.5953, abs=5e-5)
        assert (audit.tight_slope.upper, audit.slope_at_infinity.upper, audit.unbounded_cells, audit.tight_cells) == (0, 0, 0, 0)
        assert audit.reason is not None
        assert "bounded" in audit.reason


@pytest.mark.parametrize("network", [oracle.random_network(5, 2, 3, 3, 2), oracle.random_network(5, 2, 4, 2, biased=False)], ids=["a", "b"])
@pytest.mark.parametrize("norm", NORMS)
def test_polytopes(network, norm):
    """The wedge x_1 >= |x_2| - 1: its cells are those of the plane, cut by two more rows."""
    rows, offsets = np.array([[1.0, 1.0], [1.0, -1.0]]), np.array([1.0, 1.0])
    wedge = Polytope(Box.whole_space(2), rows, offsets)
    steep, infinity, tight, count = 0.0, 0.0, 0, 0
    for pattern in oracle.full_patterns(network):
        every, constants = cell_rows(network, pattern)
        sides, limits = np.vstack([every, rows]), np.append(constants, offsets)
        if not has_ball(sides, limits):
            continue
        count += 1
        found = False
        for pair in oracle.pairs(network):
            g = oracle.gradient(network, pattern, pair)
            size, reached = oracle.dual_norm(g, norm), oracle.cone_slope(sides, g, norm)
            steep, infinity = max(steep, size), max(infinity, reached)
            found |= size > 1e-12 and reached > (1 - 1e-6) * size
        tight += found
    audit = tightness(network, wedge, norm)
    assert (audit.cells, audit.tight_cells) == (count, tight)
    assert audit.lipschitz.upper == pytest.approx(steep)
    assert audit.slope_at_infinity.lower == pytest.approx(infinity, abs=1e-6)
    assert audit.slope_at_infinity.upper == pytest.approx(infinity, abs=1e-6)


def has_ball(rows, offsets):
    """Whether {x : rows x + offsets >= 0} holds a ball."""
    lengths = np.linalg.norm(rows, axis=1)
    found = linprog([0, 0, -1], np.column_stack([-rows, lengths]), offsets, bounds=[(None, None), (None, None), (None, 1)])
    return found.status == 0 and -found.fun > 1e-7


def test_polytopes_without_directions_or_interior():
    triangle = Polytope(Box.whole_space(2), np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]), np.array([1.0, 1.0, 1.0]))
    audit = tightness(oracle.IDENTITY, triangle, 2)
    assert (audit.cells, audit.unbounded_cells, audit.slope_at_infinity.upper) == (4, 0, 0.0)
    assert audit.reason is not None
    line = Polytope(Box.whole_space(2), np.array([[1.0, 1.0], [-1.0, -1.0]]), np.zeros(2))
    with pytest.raises(RegionError, match="no interior"):
        tightness(oracle.IDENTITY, line, 2)


def test_sides_of_width_zero():
    """On the line x_2 = 0.5 the margin z_1 - z_0 = relu(0.5) - relu(x_1) has slope 1, downwards to the right."""
    line = Box([-inf, 0.5], [inf, 0.5])
    for norm in NORMS:
        falling, rising = tightness(oracle.IDENTITY, line, norm, labels=[0]), tightness(oracle.IDENTITY, line, norm, labels=[1])
        assert (falling.cells, falling.lipschitz.upper, falling.tight_cells) == (2, pytest.approx(1.0), 0)
        assert falling.slope_at_infinity.lower == 0.0
        assert (rising.tight_cells, rising.slope_at_infinity.lower) == (1, pytest.approx(1.0))
    tenth = Box.from_exact([-inf, Fraction(1, 10)], [inf, Fraction(1, 10)])
    with pytest.raises(RegionError, match="no float64"):
        tightness(oracle.IDENTITY, tenth, 2)


def test_one_input():
    network = oracle.chain(([[1], [-1]], [1, 1]), ([[1, 0], [0, 2]], [0, 0]))
    audit = tightness(network, None, 2, labels=[0])
    assert (audit.cells, audit.unbounded_cells, audit.tight_cells) == (3, 2, 1)
    assert [b.upper for b in (audit.lipschitz, audit.tight_slope, audit.slope_at_infinity)] == pytest.approx([3.0, 2.0, 2.0])


def test_limits_leave_a_record_that_holds():
    network = oracle.random_network(0, 3, 8, 8, 3)
    whole, nothing = tightness(network, None, 2), tightness(network, None, 2, timeout=0)
    assert whole.complete
    assert (nothing.complete, nothing.status, nothing.cells) == (False, Status.TIMED_OUT, 0)

    def interrupt(text: str) -> None:
        raise KeyboardInterrupt

    stopped = tightness(network, None, 2, progress=interrupt)
    assert (stopped.complete, stopped.status) == (False, Status.INTERRUPTED)
    assert 0 < stopped.cells < whole.cells
    for part in (nothing, stopped):
        for name in ("lipschitz", "tight_slope", "slope_at_infinity"):
            reached, value = getattr(part, name), getattr(whole, name)
            assert reached.lower <= value.upper
            assert reached.upper >= value.lower
    assert path_bound(network, oracle.pairs(network), 2.0) >= whole.lipschitz.upper


def test_cells_are_weighed_by_data():
    data = Dataset(np.array([[1.0, 1.0], [-1.0, 2.0], [2.0, -1.0], [-1.0, -1.0]]), np.array([0, 0, 1, 0]))
    audit = tightness(oracle.IDENTITY, None, 2, data=data)
    # (-1, 2): z_1 - z_0 = x_2 goes up for ever, as z_0 - z_1 does at (2, -1), of label 1. (1, 1) leaves its cell; (-1, -1) is flat.
    assert (audit.labels, audit.tight_data, audit.tight_data_top) == ((0, 1), 0.5, 0.5)
    with pytest.raises(InputError):
        tightness(oracle.IDENTITY, Box([-1, -1], [1, 1]), 2, data=data)


def test_bad_input():
    with pytest.raises(InputError, match="classes"):
        tightness(oracle.IDENTITY, None, 2, labels=[2])
    with pytest.raises(NetworkError, match="one output"):
        tightness(oracle.chain(([[1, 2]], [0])), None, 2)
    with pytest.raises(RegionError, match="dimension"):
        tightness(oracle.IDENTITY, Box.whole_space(3), 2)
    with pytest.raises(InputError, match="norm"):
        tightness(oracle.IDENTITY, None, 3)


def save(network: Network, file: Path) -> str:
    affine = [node for node in network.nodes if isinstance(node, Affine)]
    arrays = {f"W{i}": node.maps[0].weights for i, node in enumerate(affine)} | {f"b{i}": node.bias for i, node in enumerate(affine)}
    np.savez(file, L=len(affine), **arrays)
    return str(file)


def test_command(tmp_path, capsys):
    command = ["tightness", "--network", save(oracle.FOUR_NEURONS, tmp_path / "four.npz"), "--norm", "2", "--all-space"]
    assert main([*command, "--labels", "0", "--json"]) == 0
    (answer,) = answers(capsys)
    assert set(answer) >= {"L", "l", "kappa_star", "lambda_0", "cells", "unbounded_cells", "tight_cells", "layers", "complete", "seconds"}
    assert answer["L"] == pytest.approx(answer["l"])
    assert answer["L"] == pytest.approx(answer["kappa_star"])
    assert (answer["lambda_0"], answer["complete"], answer["cells"], answer["layers"]) == (None, True, 8, [0.25])
    np.savez(tmp_path / "data.npz", x=[[-2.0, 2.0], [1.0, 1.0]], y=[1, 1])
    picture = tmp_path / "cells.svg"
    assert main([*command, "--data", str(tmp_path / "data.npz"), "--picture", str(picture)]) == 0
    printed = capsys.readouterr().out
    assert "8 cells, 8 unbounded, 0 tight" in printed
    assert picture.read_text().startswith("<?xml")


def test_command_on_a_box(tmp_path, capsys):
    file = save(oracle.IDENTITY, tmp_path / "identity.npz")
    assert main(["tightness", "--network", file, "--norm", "inf", "--box", "-1", "1", "--labels", "0,1", "--json"]) == 0
    (answer,) = answers(capsys)
    assert (answer["cells"], answer["tight_cells"], answer["l"], answer["kappa_star"]) == (4, 0, 0.0, 0.0)
    assert "bounded" in answer["reason"]


@pytest.mark.parametrize(
    "options", [["--labels", "a"], ["--labels", "7"], ["--picture", "x.bmp"], ["--semantics", "float32"], ["--data", "digits:test"]]
)
def test_command_refuses(tmp_path, capsys, options):
    command = ["tightness", "--network", save(oracle.IDENTITY, tmp_path / "identity.npz"), "--norm", "2", "--all-space", "--json", *options]
    assert main(command) == 2
    assert "error" in json.loads(capsys.readouterr().out)


def test_slices_of_larger_networks_are_drawn(tmp_path):
    from verifier.report import cells as pictures

    network = oracle.random_network(3, 5, 6, 4, 3)
    data = Dataset(np.random.default_rng(0).standard_normal((3, 5)), np.array([0, 1, 2]))
    cells, plane = pictures.cells_of(network, None, 2.0, data=data)
    assert cells.complete
    xmin, xmax, ymin, ymax = cells.window
    areas = [0.5 * abs(np.sum(p[:, 0] * np.roll(p[:, 1], -1) - np.roll(p[:, 0], -1) * p[:, 1])) for p in cells.polygons]
    assert sum(areas) == pytest.approx((xmax - xmin) * (ymax - ymin))
    for polygon, size in zip(cells.polygons, cells.slopes, strict=True):
        x = plane.origin + plane.axes @ polygon.mean(axis=0)
        values = network.values(x)
        pattern = np.where(np.concatenate([values[network.nodes[i].parent] for i in network.relus]) > 0, 1, -1)
        assert size == pytest.approx(max(np.linalg.norm(oracle.gradient(network, pattern, p)) for p in oracle.pairs(network)))
    pictures.save(tmp_path / "slice.png", network, None, 2.0, data=data)
    assert (tmp_path / "slice.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match="inputs"):
        pictures.cells_of(network, None, 2.0)


def test_public_name():
    assert verifier.tightness is tightness
    assert "tightness" in dir(verifier)


def test_the_report_shows_cells(tmp_path):
    """The picture of a 2-D network survives JSON and lands in the page; bounded domains have no tight cells."""
    from dataclasses import replace

    from tests.verifier.test_report import synthetic
    from verifier.report import Audit, page
    from verifier.report import cells as pictures

    data = Dataset(np.array([[-2.0, 2.0], [1.0, 1.0]]), np.array([0, 0]))
    shown = pictures.picture_of(oracle.FOUR_NEURONS, data, "2")
    assert shown is not None
    assert (len(shown.slopes), sum(shown.tight), shown.slice) == (8, 2, False)
    audit = replace(synthetic(), cells=shown)
    assert Audit.from_json(audit.to_json()) == audit
    assert 'id="cells"' in page(audit)
    assert 'id="cells"' not in page(synthetic())
    boxed = replace(data, domain=Box([-3, -3], [3, 3]))
    inside = pictures.picture_of(oracle.FOUR_NEURONS, boxed, "inf")
    assert inside is not None
    assert inside.window == (-3.0, 3.0, -3.0, 3.0)
    assert not any(inside.tight)
    assert pictures.picture_of(oracle.random_network(0, 3, 4, 2), Dataset(np.eye(3), np.array([0, 0, 1])), "2") is None
