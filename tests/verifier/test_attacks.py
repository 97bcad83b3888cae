"""Attacks: projections against a solver, radii against brute force and closed forms, and one table that every method passes."""

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise, product
from math import inf
from pathlib import Path
from time import monotonic

import cvxpy
import numpy as np
import pytest
import scipy.sparse as sparse
import torch
from scipy.optimize import linprog

import verifier
from problems.data import Dataset, load
from problems.errors import DataError, InputError, RegionError, SpecificationError
from problems.exact import evaluate
from problems.maps import Conv, Dense, Sparse
from problems.network import Affine, Input, Network, Relu, sequential
from problems.regions.ball import Ball
from problems.regions.base import Region
from problems.regions.box import Box
from verifier.attacks.attack import METHODS
from verifier.attacks.module import as_module, one_thread
from verifier.attacks.pgd import maximise
from verifier.attacks.projections import onto_ball, onto_halfspace, steepest
from verifier.attacks.radius import nearest
from verifier.attacks.witness import distance_up, exact_margin

Array = np.ndarray
NORMS = (1, 2, inf)
DUAL = {1: inf, 2: 2, inf: 1}


def random_network(rng: np.random.Generator, *sizes: int) -> Network:
    maps = [Dense(rng.normal(size=(after, before)) / np.sqrt(before)) for before, after in pairwise(sizes)]
    return sequential(maps, [0.3 * rng.normal(size=size) for size in sizes[1:]])


def graph_network(rng: np.random.Generator) -> Network:
    """Two convolutions (one with groups and uneven padding), a residual sum, pooling with a division, a permutation, a dense output."""
    first = Conv(rng.normal(size=(4, 2, 3, 3)), (2, 5, 4), padding=(1, 1, 1, 1))
    second = Conv(rng.normal(size=(4, 2, 2, 3)), (4, 5, 4), padding=(0, 1, 1, 1), groups=2)
    pool = sparse.csr_matrix(np.kron(np.eye(4), np.ones((1, 20))))
    order = rng.permutation(80)
    permutation = sparse.csr_matrix((np.ones(80), (np.arange(80), order)), shape=(80, 80))
    nodes = (
        Input(40),
        Affine((0,), (first,), rng.normal(size=80)),
        Relu(1, 80),
        Affine((2, 1), (second, Sparse(permutation)), rng.normal(size=80)),
        Relu(3, 80),
        Affine((4,), (Sparse(pool, np.full(4, 20.0)),), np.zeros(4)),
        Affine((5, 0), (Dense(rng.normal(size=(3, 4))), Dense(0.1 * rng.normal(size=(3, 40)))), rng.normal(size=3)),
    )
    return Network(nodes, (2, 5, 4), (3,))


def tensor(values: object) -> torch.Tensor:
    return torch.tensor(np.array(values), dtype=torch.float64)


# ---------------------------------------------------------------------------------------------------- projections


@pytest.fixture(params=range(8))
def ball_case(request: pytest.FixtureRequest) -> tuple[Array, Array, Array, Array, float, Array]:
    """(center, lower, upper, point, radius, normal); some sides have width 0, some boxes are the whole space."""
    rng = np.random.default_rng(request.param)
    center = rng.normal(size=6)
    lower, upper = center - 0.6 * rng.exponential(size=6), center + 0.6 * rng.exponential(size=6)
    if request.param % 3 == 0:
        lower[:], upper[:] = -inf, inf
    if request.param % 3 == 1:
        upper[0], lower[1] = center[0], center[1]
    normal = rng.normal(size=6)
    normal[3] = 0
    return center, lower, upper, center + 2 * rng.normal(size=6), 1.5 * rng.exponential(), normal


@pytest.mark.parametrize("norm", NORMS)
def test_projection_onto_balls_agrees_with_a_solver(ball_case: tuple, norm: float) -> None:
    center, lower, upper, point, radius, _ = ball_case
    found = onto_ball(*(tensor([part]) for part in (point, center)), tensor([radius]), norm, tensor([lower]), tensor([upper]))[0].numpy()
    assert np.linalg.norm(found - center, norm) <= radius * (1 + 1e-12)
    assert ((lower <= found) & (found <= upper)).all()
    x = cvxpy.Variable(6)
    finite = np.isfinite(lower)
    inside = [cvxpy.norm(x - center, norm) <= radius, x[finite] >= lower[finite], x[finite] <= upper[finite]] if finite.any() else []
    problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(x - point)), inside or [cvxpy.norm(x - center, norm) <= radius])
    problem.solve(solver="CLARABEL")
    assert ((found - point) ** 2).sum() <= problem.value + 1e-5


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("gap", [0.3, 1.0, 30.0])
def test_steps_onto_half_spaces_agree_with_a_solver(ball_case: tuple, norm: float, gap: float) -> None:
    center, lower, upper, _, _, normal = ball_case
    steps, feasible = onto_halfspace(tensor([normal]), tensor([gap]), norm, tensor([center - lower]), tensor([upper - center]))
    step = steps[0].numpy()
    assert ((lower - 1e-12 <= center + step) & (center + step <= upper + 1e-12)).all()
    room = np.where(normal > 0, upper - center, center - lower)
    reachable = sum(abs(normal[i]) * room[i] for i in range(6) if normal[i] != 0)
    assert bool(feasible[0]) == (reachable >= gap)
    if not feasible[0]:
        assert normal @ step == pytest.approx(reachable)  # as far as the box allows
        return
    assert normal @ step >= gap * (1 - 1e-12)
    x, finite = cvxpy.Variable(6), np.isfinite(lower)
    sides = [x[finite] >= (lower - center)[finite], x[finite] <= (upper - center)[finite]] if finite.any() else []
    problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.norm(x, norm)), [normal @ x >= gap, *sides])
    problem.solve(solver="CLARABEL")
    assert np.linalg.norm(step, norm) <= problem.value * (1 + 1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_the_steepest_direction_attains_the_dual_norm_of_what_can_move(norm: float) -> None:
    gradient, blocked = tensor([[3.0, -1.0, 2.0, -4.0]]), tensor([[1.0, 1.0, 1.0, 0.0]])  # the last one cannot go down
    direction = steepest(gradient, norm, blocked, torch.ones_like(blocked))[0].numpy()
    assert np.linalg.norm(direction, norm) == pytest.approx(1)
    assert direction[3] == 0
    assert gradient[0].numpy() @ direction == pytest.approx(np.linalg.norm([3.0, -1.0, 2.0], DUAL[norm]))


# ---------------------------------------------------------------------------------------------------- module


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_the_module_evaluates_the_network(dtype: torch.dtype, tolerance: float) -> None:
    rng = np.random.default_rng(0)
    for network in (graph_network(rng), random_network(rng, 7, 5, 4)):
        x = rng.normal(size=(6, network.input_size))
        module = as_module(network, "cpu", dtype)
        logits = module(torch.tensor(x, dtype=dtype)).numpy()
        assert np.abs(logits - network.forward(x)).max() <= tolerance * (1 + np.abs(logits).max())
        assert not list(module.parameters())
        assert as_module(network, "cpu", dtype) is module


def test_the_module_of_a_large_sparse_map_has_the_right_gradient() -> None:
    rng = np.random.default_rng(1)
    matrix = sparse.random(1500, 900, density=0.004, random_state=rng, format="csr")
    network = sequential([Sparse(matrix), Dense(rng.normal(size=(2, 1500)))], [rng.normal(size=1500), np.zeros(2)])
    x = rng.normal(size=(3, 900))
    points = tensor(x).requires_grad_()
    logits = as_module(network)(points)
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), points)
    active = network.values(x)[2] > 0
    assert np.allclose(logits.detach().numpy(), network.forward(x))
    assert np.allclose(gradient.numpy(), (active * network.nodes[3].maps[0].weights[0]) @ matrix.toarray())


def test_a_torch_module_is_wrapped_and_left_alone() -> None:
    inner = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8, 3))
    wrapped = as_module(inner, "cpu", torch.float64, (1, 4, 4))
    x = torch.rand(5, 16, dtype=torch.float64)
    assert torch.allclose(wrapped(x).float(), inner(x.float().reshape(5, 1, 4, 4)), atol=1e-5)
    assert all(parameter.requires_grad and parameter.dtype == torch.float32 for parameter in inner.parameters())


def test_the_number_of_threads_is_given_back() -> None:
    before = torch.get_num_threads()
    inside = []

    def interrupted() -> None:
        with one_thread():
            inside.append(torch.get_num_threads())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert inside == [1]
    assert torch.get_num_threads() == before


# ---------------------------------------------------------------------------------------------------- maximise


def test_maximise_finds_the_corner_of_a_linear_network() -> None:
    rng = np.random.default_rng(2)
    network = sequential([Dense(rng.normal(size=(3, 10)))], [rng.normal(size=3)])
    lower, upper = -rng.uniform(size=10), rng.uniform(size=10)
    lower[4] = upper[4] = 0.25
    row = np.array([[1.0, -2.0, 0.5]])
    points, values = maximise(network, lower, upper, row, np.array([0.7]), target=None)
    weights = network.nodes[1].maps[0].weights
    best = row @ (weights @ np.where(row @ weights > 0, upper, lower)[0] + network.nodes[1].bias) + 0.7
    assert values[0] == pytest.approx(best[0])
    assert ((lower <= points) & (points <= upper)).all()
    assert (np.diff(values) <= 0).all()
    assert points.shape == (11, 10)


def test_maximise_takes_the_least_row_and_uses_given_starts() -> None:
    # max min(x - 1, 1 - x - y) over [-4, 4]^2: the rows pull x apart, the optimum is 2 at x = 3, y = -4.
    network = sequential([Dense(np.array([[1.0, 0.0], [-1.0, -1.0]]))], [np.array([-1.0, 1.0])])
    box = np.full(2, -4.0), np.full(2, 4.0)
    points, values = maximise(network, *box, np.eye(2), np.zeros(2), restarts=20, steps=100, target=None)
    assert values[0] == pytest.approx(2.0, abs=0.02)
    assert np.array_equal(values, network.forward(points).min(axis=1))
    start = np.array([[3.0, -4.0]])
    points, values = maximise(network, *box, np.eye(2), np.zeros(2), restarts=0, steps=0, start=start)
    assert values[0] == 2.0
    assert points[0].tolist() == [3.0, -4.0]


def test_maximise_walks_over_dead_neurons() -> None:
    network = sequential([Dense(np.ones((1, 2))), Dense(np.ones((1, 1)))], [np.full(1, -1.0), np.zeros(1)])  # flat but for one corner
    box, row = (np.full(2, -1.0), np.ones(2)), (np.ones((1, 1)), np.zeros(1))
    values = [maximise(network, *box, *row, restarts=0, seed=seed)[1][0] for seed in range(10)]  # the centre is flat
    assert max(values) == pytest.approx(1.0)


def test_maximise_searches_narrow_boxes_in_float64() -> None:
    rng = np.random.default_rng(11)
    network = random_network(rng, 300, 300, 2)  # large enough for float32
    center = rng.normal(size=300)
    upper = center + 1e-9
    points, values = maximise(network, center, upper, np.eye(2)[:1], np.zeros(1), restarts=2, target=None)
    assert ((center <= points) & (points <= upper)).all()
    assert values[0] > network.forward(center)[0] + 1e-10  # float32 would see one point only


def test_maximise_finds_counterexamples_behind_saturated_logits(shared_data: Path) -> None:
    from problems import vnnlib
    from problems.readers import load as load_network

    folder = shared_data / "vnncomp" / "mnist_fc"
    network = load_network(folder / "onnx" / "mnist-net_256x2.onnx")
    best = -inf
    for disjunct in vnnlib.read(folder / "vnnlib" / "prop_2_0.03.vnnlib").disjuncts:
        box = disjunct.region.bounding_box()
        best = max(best, maximise(network, *box, disjunct.coefficients, disjunct.offsets, restarts=40)[1][0])
    assert best > 0


def test_maximise_accepts_infinite_sides() -> None:
    network = random_network(np.random.default_rng(3), 3, 4, 2)
    lower, upper = np.array([-inf, 0.0, -inf]), np.array([inf, inf, 2.0])
    points, values = maximise(network, lower, upper, np.eye(2)[:1], np.zeros(1), target=None)
    assert np.isfinite(points).all()
    assert np.isfinite(values).all()
    assert ((lower <= points) & (points <= upper)).all()


def test_maximise_is_reproducible_and_ends_at_the_deadline() -> None:
    network = random_network(np.random.default_rng(4), 100, 300, 300, 300, 5)
    box = np.full(100, -0.1), np.full(100, 0.1)
    rows, offsets = np.eye(5)[:2], np.full(2, -100.0)
    first, again = (maximise(network, *box, rows, offsets, restarts=5, steps=5, seed=7) for _ in range(2))
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    other = maximise(network, *box, rows, offsets, restarts=5, steps=5, seed=8)
    assert not np.array_equal(first[0], other[0])
    begin = monotonic()
    points, _ = maximise(network, *box, rows, offsets, restarts=100_000, steps=1000, deadline=begin + 0.3)  # minutes of work
    assert monotonic() - begin < 3
    assert len(points) >= 1
    points, _ = maximise(network, *box, rows, offsets, deadline=begin)  # too late for anything but the starts
    assert len(points) >= 1


# ---------------------------------------------------------------------------------------------------- nearest


@pytest.mark.parametrize("norm", NORMS)
def test_nearest_reaches_the_closed_form_of_a_linear_classifier(norm: float) -> None:
    rng = np.random.default_rng(5)
    weights, bias, x = rng.normal(size=(4, 12)), rng.normal(size=4), rng.normal(size=(9, 12))
    network = sequential([Dense(weights)], [bias])
    logits = network.forward(x)
    labels = logits.argmax(axis=1)
    exact = [
        min((z[y] - z[k]) / np.linalg.norm(weights[k] - weights[y], DUAL[norm]) for k in range(4) if k != y)
        for z, y in zip(logits, labels, strict=True)
    ]
    points, distances = nearest(network, x, labels, norm=norm, restarts=1)
    assert distances == pytest.approx(exact, rel=1e-9)
    assert (distances >= np.array(exact) * (1 - 1e-14)).all()
    assert all(exact_margin(network, point, int(label)) >= 0 for point, label in zip(points, labels, strict=True))


def brute_force_radius(network: Network, x: Array, label: int, norm: float, lower: Array, upper: Array) -> float:
    """min ||x' - x|| over all activation patterns and targets of a network with one hidden layer: one LP (l2: one QP) each."""
    first, last = (network.nodes[i].maps[0].weights for i in (1, 3))
    hidden, output = network.nodes[1].bias, network.nodes[3].bias
    n, best = len(x), inf
    for pattern in product((0, 1), repeat=len(hidden)):
        sign = 2 * np.array(pattern) - 1
        jacobian = last @ (np.array(pattern)[:, None] * first)
        constant = last @ (np.array(pattern) * hidden) + output
        for target in set(range(len(output))) - {label}:
            rows = np.vstack([-sign[:, None] * first, jacobian[label] - jacobian[target]])
            limits = np.append(sign * hidden, constant[target] - constant[label])
            if norm == 2:
                step = cvxpy.Variable(n)
                sides = [rows @ (x + step) <= limits, step >= lower - x, step <= upper - x]
                problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(step)), sides)
                problem.solve(solver="CLARABEL")
                value = np.sqrt(problem.value) if problem.status == "optimal" else inf
            else:
                auxiliary = n if norm == 1 else 1
                bound = np.eye(n) if norm == 1 else np.ones((n, 1))
                matrix = np.block([[rows, np.zeros((len(rows), auxiliary))], [np.eye(n), -bound], [-np.eye(n), -bound]])
                cost = np.append(np.zeros(n), np.ones(auxiliary))
                sides = [*zip(lower, upper, strict=True), *[(0, None)] * auxiliary]
                result = linprog(cost, matrix, np.concatenate([limits, x, -x]), bounds=sides)
                value = result.fun if result.success else inf
            best = min(best, value)
    return best


@pytest.mark.parametrize("norm", NORMS)
def test_nearest_matches_brute_force_on_tiny_networks(norm: float) -> None:
    ratios = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        network = random_network(rng, 4, 4, 3)
        lower, upper, x = np.full(4, -1.5), np.full(4, 1.5), rng.uniform(-1, 1, size=(1, 4))
        labels = network.forward(x).argmax(axis=1)
        exact = brute_force_radius(network, x[0], int(labels[0]), norm, lower, upper)
        points, distances = nearest(network, x, labels, norm=norm, box=(lower, upper))
        if exact == inf:
            assert distances[0] == inf
            assert np.array_equal(points, x)
            continue
        assert ((lower <= points) & (points <= upper)).all()
        assert distances[0] >= exact - 1e-6  # the solver's tolerance
        ratios.append(distances[0] / exact)
    assert len(ratios) >= 4
    assert max(ratios) < 1.02


@pytest.mark.parametrize("norm", NORMS)
def test_nearest_keeps_its_word_on_digits(norm: float) -> None:
    from problems.readers import load as load_network

    network, data = load_network("digits-16x2"), load("digits:test").select("0:30")
    points, distances = nearest(network, data.x, data.y, norm=norm, box=data.domain, seed=3)
    again = nearest(network, data.x, data.y, norm=norm, box=data.domain, seed=3)
    assert np.array_equal(points, again[0])
    assert np.isfinite(distances).all()
    for x, y, point, distance in zip(data.x, data.y, points, distances, strict=True):
        assert data.domain.contains(point)
        assert exact_margin(network, point, int(y)) >= 0
        steps = [abs(Fraction(a) - Fraction(b)) for a, b in zip(point.tolist(), x.tolist(), strict=True)]
        size = sum(step**2 for step in steps) if norm == 2 else sum(steps) if norm == 1 else max(steps)
        assert Fraction(distance) ** (2 if norm == 2 else 1) >= size
        assert distance == pytest.approx(np.linalg.norm(point - x, norm))
        if distance > 0:  # halfway back the point is right again: the boundary is where it was said to be
            assert exact_margin(network, x + 0.999 * (point - x), int(y)) < 0


def test_nearest_calls_a_tie_an_error() -> None:
    network = sequential([Dense(np.array([[1.0, 0.0], [0.0, 1.0]]))], [np.zeros(2)])
    points, distances = nearest(network, np.array([[0.1, 0.1], [0.3, 0.1], [0.1, 0.3]]), np.zeros(3, dtype=int), norm=inf)
    assert distances[[0, 2]].tolist() == [0.0, 0.0]
    assert distances[1] == pytest.approx(0.1, rel=1e-9)
    assert points[1, 1] >= points[1, 0]


def test_nearest_finds_nothing_where_nothing_is() -> None:
    constant = sequential([Dense(np.zeros((2, 3)))], [np.array([1.0, 0.0])])
    x = np.full((2, 3), 0.5)
    points, distances = nearest(constant, x, np.zeros(2, dtype=int), norm=2, box=(np.zeros(3), np.ones(3)))
    assert distances.tolist() == [inf, inf]
    assert np.array_equal(points, x)


def test_nearest_climbs_where_the_gradient_is_zero() -> None:
    # z_1 - z_0 = relu(x - 3) - 1 is flat around the sample: only points beyond 4 are errors.
    network = sequential([Dense(np.ones((1, 1))), Dense(np.array([[0.0], [1.0]]))], [np.array([-3.0]), np.array([1.0, 0.0])])
    _, distances = nearest(network, np.zeros((1, 1)), np.zeros(1, dtype=int), norm=2)
    assert distances[0] == pytest.approx(4.0, rel=1e-9)


def test_nearest_ends_at_the_deadline() -> None:
    rng = np.random.default_rng(6)
    network = random_network(rng, 100, 300, 300, 10)
    x = rng.normal(size=(400, 100))
    begin = monotonic()
    points, distances = nearest(network, x, network.forward(x).argmax(axis=1), norm=2, deadline=begin + 0.5, restarts=50)
    assert monotonic() - begin < 3
    assert points.shape == x.shape
    assert np.array_equal(points[distances == inf], x[distances == inf])


# ---------------------------------------------------------------------------------------------------- every attack


@dataclass(frozen=True)
class Case:
    """A method in a setting; `region` None means the data's own."""

    method: str
    norm: float
    epsilon: float
    region: Region | None = None


REGIONS: tuple[Region | None, ...] = (
    None,
    Box.whole_space(64),
    Box.from_exact([Fraction(-1, 3)] * 64, [Fraction(31, 30)] * 64),
    Ball(np.full(64, 0.5), 4.5, 2),
)
CASES = [
    Case(method, norm, epsilon, region)
    for method in METHODS
    for norm, epsilon in ((1, 1.1), (2, 0.6), (inf, 0.1))
    for region in (REGIONS if norm == 2 else REGIONS[:1])
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.method}-{case.norm}-{type(case.region).__name__}")
def test_every_attack_keeps_its_word(case: Case) -> None:
    from problems.readers import load as load_network

    network, data = load_network("digits-16x2"), load("digits:test").select("10:30")
    options = {"method": case.method, "norm": case.norm, "epsilon": case.epsilon, "region": case.region, "restarts": 2, "steps": 20}
    report = verifier.attack(network, data, **options)
    region = data.domain if case.region is None else case.region
    assert [row.sample for row in report.rows] == list(range(10, 30))
    assert [row.label for row in report.rows] == data.y.tolist()
    for x, row, point in zip(data.x, report.rows, report.points, strict=True):
        assert region.contains(point)
        assert Ball(x, case.epsilon, case.norm).contains(point)
        margin = exact_margin(network, point, row.label)
        assert row.success == (margin >= 0)
        assert Fraction(row.margin) <= margin
        assert row.margin == pytest.approx(float(margin), abs=1e-9)
        assert row.distance == distance_up(point, x, case.norm)
    successes = [row for row in report.rows if row.success]
    assert report.accuracy == pytest.approx(1 - len(successes) / 20)
    assert report.budget_used == pytest.approx(sum(row.distance for row in successes) / 20)
    assert "point-wise" in report.threat_model
    assert str(case.epsilon) in report.threat_model
    wrong = network.forward(data.x).argmax(axis=1) != data.y
    assert all(row.success and row.distance == 0 for row, already in zip(report.rows, wrong, strict=True) if already)
    again = verifier.attack(network, data, **options)
    assert again.rows == report.rows
    assert np.array_equal(again.points, report.points)
    # As strong as it is honest: it finds what the radius attack finds within the same ball, but for a few samples.
    if isinstance(region, Box):
        _, distances = nearest(network, data.x, data.y, norm=case.norm, box=region)
        assert len(successes) >= (distances <= case.epsilon).sum() - 2
        assert len(successes) >= 3


@pytest.mark.parametrize("method", METHODS)
def test_every_attack_decides_linear_classifiers(method: str) -> None:
    rng = np.random.default_rng(8)
    network = sequential([Dense(rng.normal(size=(3, 8)))], [rng.normal(size=3)])
    x = rng.normal(size=(20, 8))
    data = Dataset(x, network.forward(x).argmax(axis=1))
    for norm in NORMS:
        _, radii = nearest(network, data.x, data.y, norm=norm)
        for epsilon in np.quantile(radii, [0.3, 0.7]):
            report = verifier.attack(network, data, method=method, norm=norm, epsilon=float(epsilon))
            clear = np.abs(radii - epsilon) > 0.01 * epsilon
            assert [row.success for row, sure in zip(report.rows, clear, strict=True) if sure] == (radii < epsilon)[clear].tolist()


@pytest.mark.parametrize("method", METHODS)
def test_every_attack_survives_epsilon_zero_and_no_time(method: str) -> None:
    report = verifier.attack("digits-16x2", "digits:test", samples="0:40", method=method, norm=inf, epsilon=0)
    assert {row.distance for row in report.rows} == {0.0}
    assert report.budget_used == 0
    begin = monotonic()
    report = verifier.attack("digits-16x2", "digits:test", method=method, norm=1, epsilon=1.0, restarts=10_000, timeout=0.3)
    assert monotonic() - begin < 5
    assert len(report.rows) == 400
    assert 0 < report.accuracy < 1


# ---------------------------------------------------------------------------------------------------- bad input

GOOD = {"network": "digits-16x2", "data": "digits:test", "norm": 2, "epsilon": 0.1, "samples": "0:2"}
BAD: list[tuple[dict, type[InputError], str]] = [
    ({"epsilon": -0.1}, InputError, "epsilon"),
    ({"epsilon": float("nan")}, InputError, "epsilon"),
    ({"epsilon": inf}, InputError, "epsilon"),
    ({"epsilon": "big"}, InputError, "epsilon"),
    ({"norm": 3}, InputError, "norm"),
    ({"norm": float("nan")}, InputError, "norm"),
    ({"method": "magic"}, InputError, "method"),
    ({"steps": -1}, InputError, "steps"),
    ({"steps": 2.5}, InputError, "steps"),
    ({"restarts": -1}, InputError, "restarts"),
    ({"seed": -1}, InputError, "seed"),
    ({"timeout": 0}, InputError, "timeout"),
    ({"timeout": float("nan")}, InputError, "timeout"),
    ({"timeout": "soon"}, InputError, "timeout"),
    ({"device": "abacus"}, InputError, "device"),
    ({"data": Dataset(np.full((1, 64), 0.5), np.array([10]))}, DataError, "label"),
    ({"data": Dataset(np.full((1, 63), 0.5), np.array([1]))}, DataError, "63"),
    ({"data": Dataset(np.full((1, 64), 1.5), np.array([1])), "region": Box(np.zeros(64), np.ones(64))}, DataError, "region"),
    ({"region": Box(np.zeros(63), np.ones(63))}, DataError, "63"),
]


@pytest.mark.parametrize(("change", "error", "word"), BAD)
def test_bad_input_is_named(change: dict, error: type[InputError], word: str) -> None:
    options = GOOD | change
    if isinstance(options["data"], Dataset):
        options.pop("samples")
    with pytest.raises(error) as raised:
        verifier.attack(options.pop("network"), options.pop("data"), **options)
    assert word in str(raised.value)


def test_a_missing_gpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="CUDA"):
        verifier.attack("digits-16x2", "digits:test", norm=2, epsilon=0.1, device="cuda")


SMALL = random_network(np.random.default_rng(9), 3, 4, 2)
BOX = (np.zeros(3), np.ones(3))


@pytest.mark.parametrize(
    ("box", "rows", "offsets", "error"),
    [
        ((np.ones(3), np.zeros(3)), np.eye(2), np.zeros(2), RegionError),
        ((np.full(3, np.nan), np.ones(3)), np.eye(2), np.zeros(2), RegionError),
        ((np.zeros(4), np.ones(4)), np.eye(2), np.zeros(2), RegionError),
        (BOX, np.eye(3), np.zeros(3), SpecificationError),
        (BOX, np.eye(2), np.zeros(3), SpecificationError),
        (BOX, np.empty((0, 2)), np.zeros(0), SpecificationError),
        (BOX, np.full((1, 2), np.nan), np.zeros(1), SpecificationError),
    ],
)
def test_maximise_names_bad_input(box: tuple, rows: Array, offsets: Array, error: type[InputError]) -> None:
    with pytest.raises(error):
        maximise(SMALL, *box, rows, offsets)


@pytest.mark.parametrize(
    ("x", "labels", "options", "error"),
    [
        (np.zeros((1, 4)), np.array([0]), {}, DataError),
        (np.zeros((1, 3)), np.array([2]), {}, DataError),
        (np.zeros((1, 3)), np.array([-1]), {}, DataError),
        (np.zeros((1, 3)), np.array([0.5]), {}, DataError),
        (np.zeros((1, 3)), np.array([0, 1]), {}, DataError),
        (np.full((1, 3), np.nan), np.array([0]), {}, DataError),
        (np.full((1, 3), 2.0), np.array([0]), {"box": BOX}, DataError),
        (np.zeros((1, 3)), np.array([0]), {"box": (np.ones(3), np.zeros(3))}, RegionError),
        (np.zeros((1, 3)), np.array([0]), {"norm": 0}, InputError),
        (np.zeros((1, 3)), np.array([0]), {"device": "tpu"}, InputError),
        (np.zeros((1, 3)), np.array([0]), {"steps": -3}, InputError),
    ],
)
def test_nearest_names_bad_input(x: Array, labels: Array, options: dict, error: type[InputError]) -> None:
    with pytest.raises(error):
        nearest(SMALL, x, labels, **({"norm": 2} | options))


def test_exact_margins_agree_with_the_definition() -> None:
    logits = evaluate(SMALL, np.array([0.1, 0.2, 0.3]))
    assert exact_margin(SMALL, np.array([0.1, 0.2, 0.3]), 0) == logits[1] - logits[0]
