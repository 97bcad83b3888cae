"""Attacks in transport balls: honest (mass, sign, distance by another solver, label), as strong as a linear program, and bad input."""

from fractions import Fraction
from math import inf, prod
from time import monotonic

import numpy as np
import pytest
import scipy.sparse as sparse
import torch
from scipy.optimize import linprog

import verifier
from problems.data import Dataset
from problems.errors import DataError, InputError
from problems.maps import Dense
from problems.network import Network, sequential
from problems.transport.grid import Grid
from problems.transport.solver import plan
from tests.verifier.attack_cases import Array, graph_network, random_network
from tests.verifier.command_line import answers
from verifier.attacks import flow_gradient, frank_wolfe
from verifier.attacks.flow_gradient import applied, differences, project
from verifier.attacks.transport import METHODS
from verifier.attacks.witness import exact_margin


def sparse_images(rng: np.random.Generator, count: int, size: int, share: float = 0.5) -> Array:
    images = rng.random((count, size)) * (rng.random((count, size)) < share)
    images[:, 0] += 0.1
    return np.minimum(images, 1.0)


def by_program(weights: Array, bias: Array, x: Array, label: int, grid: Grid, cap: float) -> float:
    """The exact radius of a linear classifier, by a linear program per class over the flows on the grid's edges."""
    tail, _, length = grid.edges
    flow = sparse.hstack([grid.incidence, -grid.incidence])
    best = inf
    for target in range(len(bias)):
        if target == label:
            continue
        row, offset = weights[target] - weights[label], bias[target] - bias[label]
        rows, sides = [-flow, sparse.csr_matrix(-(row @ flow))], [x, [row @ x + offset]]
        if cap < inf:
            rows, sides = [*rows, flow], [*sides, cap - x]
        solved = linprog(np.tile(length, 2), A_ub=sparse.vstack(rows), b_ub=np.concatenate(sides), bounds=(0, None), method="highs")
        best = min(best, solved.fun) if solved.status == 0 else best
    assert len(tail)
    return best / x.sum()


def check(network: Network, x: Array, labels: Array, points: Array, distances: Array, grid: Grid, cap: float = inf) -> None:
    """What every result promises, by other means than those it was found with."""
    for image, label, point, distance in zip(x, labels, points, distances, strict=True):
        if distance == inf:
            assert np.array_equal(point, image)
            continue
        assert ((point >= 0) & (point <= cap)).all()
        for channel in range(grid.channels):
            part = slice(channel * grid.pixels, (channel + 1) * grid.pixels)
            assert sum(map(Fraction, point[part].tolist())) == sum(map(Fraction, image[part].tolist()))
        assert exact_margin(network, point, int(label)) >= 0
        cost = 0.0
        for before, after in zip(image.reshape(grid.channels, -1), point.reshape(grid.channels, -1), strict=True):
            flow, _ = plan(before, after, grid.distances)
            cost += float((flow * grid.distances).sum())
        assert distance == pytest.approx(cost / image.sum(), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("ground", ["l1", "l2"])
@pytest.mark.parametrize("pixels", ["simplex", "image"])
def test_linear_classifiers_against_a_linear_program(ground: str, pixels: str) -> None:
    rng = np.random.default_rng(5)
    grid = Grid(1, 5, 4, ground)
    weights, bias = rng.normal(size=(3, 20)), 0.3 * rng.normal(size=3)
    network = sequential([Dense(weights)], [bias])
    x = sparse_images(rng, 8, 20)
    labels = network.forward(x).argmax(1)
    points, distances = frank_wolfe.nearest(network, x, labels, shape=grid, pixels=pixels)
    cap = 1.0 if pixels == "image" else inf
    check(network, x, labels, points, distances, grid, cap)
    exact = np.array([by_program(weights, bias, image, int(label), grid, cap) for image, label in zip(x, labels, strict=True)])
    met = np.isfinite(distances)
    assert (distances >= exact * (1 - 1e-9)).all()  # inf where a class cannot be reached
    if pixels == "simplex":
        assert np.array_equal(met, np.isfinite(exact))
        assert distances[met] == pytest.approx(exact[met], rel=1e-6)
    else:
        assert np.median(distances[met] / exact[met]) < 1.01


def test_networks_of_any_shape() -> None:
    rng = np.random.default_rng(3)
    network = graph_network(rng)  # two channels, each keeps its mass
    x = sparse_images(rng, 4, 40)
    x[:, 20] += 0.2
    x = np.minimum(x, 1.0)
    labels = network.forward(x).argmax(1)
    for pixels, cap in (("simplex", inf), ("image", 1.0)):
        for attack, steps in ((frank_wolfe.nearest, 30), (flow_gradient.nearest, 5)):
            points, distances = attack(network, x, labels, shape=(2, 5, 4), pixels=pixels, steps=steps)
            check(network, x, labels, points, distances, Grid(2, 5, 4), cap)
            assert np.isfinite(distances).sum() >= 2


def test_never_above_projected_gradient() -> None:
    from problems.data import load
    from problems.readers import load as load_network

    network, data = load_network("digits-16x2"), load("digits:test").select("0:8")
    points, distances = frank_wolfe.nearest(network, data.x, data.y, shape=(8, 8))
    baseline, lengths = flow_gradient.nearest(network, data.x, data.y, shape=(8, 8), steps=15)
    check(network, data.x, data.y, points, distances, Grid(1, 8, 8))
    check(network, data.x, data.y, baseline, lengths, Grid(1, 8, 8))
    assert (distances <= lengths * (1 + 1e-3)).all()
    assert np.median(lengths[distances > 0] / distances[distances > 0]) < 2


def test_together_as_one_by_one() -> None:
    rng = np.random.default_rng(7)
    network = random_network(rng, 30, 8, 8, 4)
    x = sparse_images(rng, 6, 30)
    labels = network.forward(x).argmax(1)
    points, distances = frank_wolfe.nearest(network, x, labels, shape=(5, 6))
    alone = [frank_wolfe.nearest(network, x[i : i + 1], labels[i : i + 1], shape=(5, 6)) for i in range(6)]
    assert distances == pytest.approx(np.concatenate([found[1] for found in alone]), rel=1e-5)
    again, same = frank_wolfe.nearest(network, x, labels, shape=(5, 6))
    assert np.array_equal(points, again)
    assert np.array_equal(distances, same)


def test_wrong_images_have_distance_zero_and_no_time_is_survived() -> None:
    rng = np.random.default_rng(2)
    network = random_network(rng, 12, 5, 3)
    x = sparse_images(rng, 4, 12)
    wrong = (network.forward(x).argmax(1) + 1) % 3
    points, distances = frank_wolfe.nearest(network, x, wrong, shape=(3, 4))
    assert np.array_equal(points, x)
    assert (distances == 0).all()
    for attack in METHODS.values():
        points, distances = attack(network, x, network.forward(x).argmax(1), shape=(3, 4), deadline=monotonic())
        check(network, x, network.forward(x).argmax(1), points, distances, Grid(1, 3, 4))


def test_projection_onto_flows_of_images() -> None:
    """Against the optimality condition: flows - projection is in the normal cone, so no feasible flow is nearer."""
    rng = np.random.default_rng(4)
    grid = Grid(1, 4, 3)
    x = torch.from_numpy(sparse_images(rng, 3, 12))
    edges = len(grid.edges[0])
    flows = torch.from_numpy(rng.normal(size=(3, edges)))
    assert applied(flows, grid).numpy() == pytest.approx(flows.numpy() @ grid.incidence.toarray().T)
    assert differences(x, grid).numpy() == pytest.approx(x.numpy() @ grid.incidence.toarray())
    for cap in (inf, 1.0):
        radius = torch.tensor([0.1, 0.5, 100.0], dtype=torch.float64)
        found, _ = project(flows, x, radius, cap, grid, torch.zeros_like(x), steps=1000)
        images = x + applied(found, grid)
        assert (found.abs().sum(1) <= radius * (1 + 1e-9)).all()
        assert images.min() >= -1e-6
        assert images.max() <= cap + 1e-6
        for row in range(3):  # <flows - found, other - found> <= 0 for every feasible other: its maximum by a linear program
            pull = (flows - found)[row].numpy()
            both = sparse.hstack([grid.incidence, -grid.incidence])
            rows = [-both, sparse.csr_matrix(np.ones((1, 2 * edges)))]
            sides = [x[row].numpy(), [float(radius[row])]]
            if cap < inf:
                rows, sides = [*rows, both], [*sides, cap - x[row].numpy()]
            objective = np.concatenate([-pull, pull])
            solved = linprog(objective, A_ub=sparse.vstack(rows), b_ub=np.concatenate(sides), bounds=(0, None), method="highs")
            assert -solved.fun <= pull @ found[row].numpy() + 1e-3


@pytest.mark.parametrize("method", sorted(METHODS))
def test_the_attack_keeps_its_word(method: str) -> None:
    from problems.data import load
    from problems.readers import load as load_network

    network, data = load_network("digits-16x2"), load("digits:test").select("0:8")
    options = {"method": method, "norm": "wasserstein", "steps": 20 if method == "frank-wolfe" else 3}
    report = verifier.attack(network, data, epsilon=0.05, **options)
    assert [row.sample for row in report.rows] == list(range(8))
    assert 0 < report.accuracy < 1
    assert "Wasserstein" in report.threat_model
    for x, row, point in zip(data.x, report.rows, report.points, strict=True):
        assert sum(map(Fraction, point.tolist())) == sum(map(Fraction, x.tolist()))
        assert (point >= 0).all()
        margin = exact_margin(network, point, row.label)
        assert row.success == (margin >= 0)
        assert Fraction(row.margin) <= margin
        flow, _ = plan(x, point, Grid(1, 8, 8).distances)
        assert (flow * Grid(1, 8, 8).distances).sum() / x.sum() == pytest.approx(row.distance, abs=1e-9)
        assert row.distance <= 0.05
    won = [row.distance for row in report.rows if row.success]
    assert report.accuracy == pytest.approx(1 - len(won) / 8)
    assert report.budget_used == pytest.approx(sum(won) / 8)
    nothing = verifier.attack(network, data, epsilon=0, **options)
    assert np.array_equal(nothing.points, data.x)


NETWORK = random_network(np.random.default_rng(1), 12, 4, 2)


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"method": "pgd"}, "method"),
        ({"method": "frank-wolfe", "norm": 2}, "norm"),
        ({"method": "frank-wolfe", "order": 1}, "order"),
        ({"method": "pgd", "norm": 2, "ground": "l2"}, "ground"),
        ({"method": "frank-wolfe", "ground": "l3"}, "ground"),
        ({"method": "frank-wolfe", "pixels": "voxel"}, "pixels"),
        ({"method": "flow-gradient", "ground": "l2"}, "ground"),
        ({"method": "frank-wolfe", "epsilon": inf}, "epsilon"),
        ({"method": "frank-wolfe", "steps": -1}, "steps"),
        ({"method": "frank-wolfe", "timeout": -1.0}, "timeout"),
        ({"method": "frank-wolfe", "device": "abacus"}, "device"),
    ],
)
def test_bad_options(options: dict[str, object], place: str) -> None:
    data = Dataset(np.full((1, 12), 0.5), np.zeros(1), image_shape=(1, 3, 4))
    with pytest.raises(InputError) as caught:
        verifier.attack(NETWORK, data, **({"norm": "wasserstein", "epsilon": 0.1} | options))
    assert caught.value.place == place


@pytest.mark.parametrize(
    ("image", "shape", "pixels"),
    [(-0.1, (3, 4), "simplex"), (0.0, (3, 4), "simplex"), (0.5, (3, 5), "simplex"), (1.5, (3, 4), "image"), (np.nan, (3, 4), "simplex")],
)
def test_bad_images(image: float, shape: tuple[int, int], pixels: str) -> None:
    assert prod((3, 4)) == NETWORK.input_size
    with pytest.raises((DataError, InputError)):
        frank_wolfe.nearest(NETWORK, np.full((1, 12), image), np.zeros(1), shape=shape, pixels=pixels)


def test_the_command(capsys: pytest.CaptureFixture) -> None:
    from verifier.cli import main

    question = ["attack", "--network", "digits-16x2", "--data", "digits:test", "--samples", "2:4", "--epsilon", "0.05", "--json"]
    assert main([*question, "--method", "frank-wolfe", "--norm", "wasserstein", "--pixels", "simplex", "--ground", "l1"]) == 0
    *rows, last = answers(capsys)
    assert [row["sample"] for row in rows] == [2, 3]
    assert all(set(row) == {"sample", "label", "success", "distance", "margin"} for row in rows)
    assert rows[0]["success"]
    assert rows[0]["distance"] <= 0.05
    assert last["accuracy"] == 1 - sum(row["success"] for row in rows) / 2
    assert last["budget_used"] == sum(row["distance"] for row in rows if row["success"]) / 2
    assert "pixels >= 0" in last["threat_model"]
    assert main([*question, "--method", "frank-wolfe", "--norm", "wasserstein", "--box", "0", "1"]) == 2
