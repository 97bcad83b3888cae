"""Condensed networks and tightened neurons: nothing true is cut off, rounding included, and work can be carried to another process."""

import itertools
import pickle
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from problems import exact
from problems.maps import Dense
from problems.network import Affine, Network, sequential
from problems.regions.box import Box
from problems.specification import robustness
from tests.verifier.oracles import SEEDS, largest_violation, random_box, random_network, sample
from tests.verifier.test_bounds import REGIONS, points_of, random_region
from tests.verifier.test_verify import drawn
from verifier.bounds import Condensed, Layout, Propagation, condense
from verifier.bounds.condensed import WORTH
from verifier.bounds.walk import walk
from verifier.search.budget import Budget
from verifier.search.question import Question
from verifier.search.search import Search
from verifier.search.sharing import Crew
from verifier.sharpening import Sharpening, Stage
from verifier.tightening import Tightening
from verifier.violation import Violation, targets_of

PATIENCE = 20.0


def bounded(network: Network, region) -> Propagation:
    low, high = region.bounding_box()
    return walk(Propagation(network, region, low[None], high[None]), crown=True)


def parts_of(pieces: Propagation) -> dict[int, list[int]]:
    """ReLU node -> its open neurons, for nodes that have any."""
    lower, upper = (side[0] for side in pieces.neuron_bounds())
    layout = Layout.of(pieces.network)
    found = {i: np.flatnonzero((lower[s] < 0) & (upper[s] > 0)).tolist() for i, s in zip(layout.relus, layout.slices, strict=True)}
    return {i: chosen for i, chosen in found.items() if chosen}


def errors(pieces: Propagation, model: Condensed, x: list[Fraction]) -> list[tuple[Fraction, float]]:
    """At an exact point: (how far each affine entry of the model lies from the network's value, its slack)."""
    values, kept = exact.evaluate_all(pieces.network, x), parts_of(pieces)
    truth: list[list[Fraction]] = [list(x)]
    for index, chosen in kept.items():
        truth.append([values[pieces.network.nodes[index].parent][j] for j in chosen])  # type: ignore[union-attr]
        truth.append([values[index][j] for j in chosen])
    truth.append(list(values[-1]))
    result = []
    for index, node in enumerate(model.network.nodes):
        if not isinstance(node, Affine):
            continue
        for row in range(node.size):
            total = Fraction(node.bias[row])
            for parent, linear in zip(node.parents, node.maps, strict=True):
                assert isinstance(linear, Dense)
                total += sum((Fraction(w) * v for w, v in zip(linear.weights[row].tolist(), truth[parent], strict=True)), Fraction(0))
            result.append((abs(truth[index][row] - total), float(model.slack[index][row])))
    return result


@settings(max_examples=60)
@given(SEEDS, st.sampled_from(REGIONS))
def test_a_condensed_network_is_the_network_within_its_slack(seed: int, kind: str) -> None:
    generator = np.random.default_rng(seed)
    network = random_network(generator)
    pieces = bounded(network, random_region(generator, kind, network.input_size))
    model = condense(pieces)
    if not model.slack:
        return
    kept = [j for chosen in parts_of(pieces).values() for j in chosen]
    assert model.network.neurons == len(kept)
    for x in points_of(pieces.region, generator):
        assert all(difference <= Fraction(slack) for difference, slack in errors(pieces, model, x))


@pytest.mark.parametrize("scale", [1.0, 2.0**20, 2.0**-20])
def test_what_multiplying_out_rounds_off_is_in_the_slack(scale: float) -> None:
    """Ten stable neurons, whose weights cancel, are multiplied out: the result differs from the stored network, by less than the slack."""
    generator = np.random.default_rng(1)
    first = np.vstack([generator.normal(size=(10, 2)), [[1.0, -1.0]]])
    second = scale * np.vstack([generator.normal(size=(3, 11)) * 10.0 ** generator.integers(-3, 4, (3, 11))])
    maps = [Dense(first), Dense(second), Dense(generator.normal(size=(2, 3)))]
    network = sequential(maps, [np.append(np.full(10, 9.0), 0.0), np.full(3, -scale), np.zeros(2)])
    pieces = bounded(network, Box(np.full(2, -1.0), np.full(2, 1.0)))
    model = condense(pieces)
    assert [node.size for node in model.network.nodes][:3] == [2, 1, 1]
    found = [pair for x in sample(Box(np.full(2, -1.0), np.full(2, 1.0)), 20) for pair in errors(pieces, model, [Fraction(v) for v in x])]
    assert any(difference > 0 for difference, _ in found)
    assert all(difference <= Fraction(slack) for difference, slack in found)
    assert max(slack for _, slack in found) < 1e-9 * max(scale, 1.0) * 1e4


@settings(max_examples=40)
@given(SEEDS, st.sampled_from(REGIONS))
def test_bounds_on_a_condensed_network_hold(seed: int, kind: str) -> None:
    generator = np.random.default_rng(seed)
    network = random_network(generator)
    region = random_region(generator, kind, network.input_size)
    model = condense(bounded(network, region))
    low, high = region.bounding_box()
    pieces = walk(Propagation(model.network, region, low[None], high[None], slack=model.slack), crown=True, iterations=4)
    for x in points_of(region, generator):
        logits = exact.evaluate(network, x)
        assert all(a <= z <= b for a, z, b in zip(pieces.lowers[-1][0], logits, pieces.uppers[-1][0], strict=True))


def test_a_network_is_not_condensed_where_nothing_is_gained() -> None:
    """One layer of very sparse rows on many inputs: dense rows would need more than WORTH times the multiplications."""
    from scipy import sparse

    from problems.maps import Sparse

    matrix = sparse.identity(200, format="csr")
    network = sequential([Sparse(matrix), Dense(np.ones((1, 200)))], [np.zeros(200), np.zeros(1)])
    pieces = bounded(network, Box(np.full(200, -1.0), np.full(200, 1.0)))
    assert WORTH * 400 < 200 * 200
    model = condense(pieces)
    assert model.network is network
    assert model.bounds is not None


def deep_network(generator: np.random.Generator, inputs: int = 3, width: int = 6, layers: int = 3) -> Network:
    sizes = [inputs, *[width] * layers, 2]
    maps = [Dense(generator.normal(size=(b, a)) / np.sqrt(a)) for a, b in itertools.pairwise(sizes)]
    return sequential(maps, [generator.normal(size=b) / 4 for b in sizes[1:]])


def tightening(network: Network, region: Box, rounds: int, **options: object) -> Tightening:
    return Tightening(condense(bounded(network, region)), region, rounds, **options)  # type: ignore[arg-type]


@settings(max_examples=25)
@given(SEEDS)
def test_tightened_bounds_hold_and_are_tighter(seed: int) -> None:
    generator = np.random.default_rng(seed)
    network, region = deep_network(generator), random_box(generator, 3)
    start = tightening(network, region, 4)
    if not start.finished:
        assert start.model.bounds is not None
        lower, upper = (side[start._part] for side in start.model.bounds)
        low, high = start._layer(Budget(PATIENCE), None)
        assert (low >= lower).all()
        assert (high <= upper).all()
    model = tightening(network, region, 4).run(Budget(PATIENCE))
    assert model.bounds is not None
    known = model.bounds[0][None], model.bounds[1][None]
    box = region.bounding_box()
    pieces = walk(Propagation(model.network, region, box[0][None], box[1][None], slack=model.slack), known, crown=True)
    for x in points_of(region, generator):
        assert all(a <= z <= b for a, z, b in zip(pieces.lowers[-1][0], exact.evaluate(network, x), pieces.uppers[-1][0], strict=True))


@settings(max_examples=10)
@given(SEEDS)
def test_the_extent_of_a_neuron_is_found_when_rounds_suffice(seed: int) -> None:
    """With rounds to spare the search closes on the exact largest and smallest value of each neuron, or on its sign."""
    generator = np.random.default_rng(seed)
    network, region = deep_network(generator, inputs=2, width=3, layers=2), random_box(generator, 2)
    start = condense(bounded(network, region))
    if len(start.network.relus) < 2:
        return
    work = tightening(network, region, 60)
    neurons = work._open.tolist()
    lower, upper = work._layer(Budget(PATIENCE), None)
    index = start.network.relus[1]
    for neuron in neurons:
        truth = []
        for sign in (1, -1):  # the largest value of sign * z is the largest violation of "its row is below zero"
            row = np.zeros((2, start.network.nodes[index].size))
            row[0, neuron] = sign
            alone = start.before(index).network.then(row)
            truth.append(sign * largest_violation(alone, robustness_of_first_row(alone, region)))
        slack = Fraction(float(start.slack[start.network.nodes[index].parent][neuron])) + Fraction(1, 10**6)  # type: ignore[union-attr]
        settled = upper[neuron] <= 0 or lower[neuron] >= 0
        assert truth[0] <= Fraction(upper[neuron]) + slack
        assert truth[1] >= Fraction(lower[neuron]) - slack
        assert settled or (Fraction(upper[neuron]) <= truth[0] + slack and Fraction(lower[neuron]) >= truth[1] - slack)


def robustness_of_first_row(network: Network, box: Box):
    """Violated by as much as output 0 exceeds output 1, which is zero."""
    return robustness(box, 1, network.output_size)


@settings(max_examples=30)
@given(SEEDS, st.sampled_from([np.inf, np.inf, 1e-3, -1e-3]))
def test_sharpened_searches_against_brute_force(seed: int, distance: float) -> None:
    network, specification, truth = drawn(seed, distance)
    question = Violation(network, targets_of(specification), "neuron", specification=specification)
    search = Search(question, batch=4)
    budget = Budget(3.0)
    search.start(budget)
    Sharpening(question, search, budget, stage=Stage(rounds=2)).run()
    search.run(budget)
    assert search.lower <= truth <= search.upper
    assert {node.model for node in search.frontier()} <= set(question.models)


def test_a_tightening_is_carried_to_another_process() -> None:
    network, region = deep_network(np.random.default_rng(5)), Box(np.full(3, -1.0), np.full(3, 1.0))
    undisturbed = tightening(network, region, 6).run(Budget(PATIENCE))
    states: list[bytes] = []

    def keep(work: Tightening) -> None:
        assert work.lanes is not None
        states.append(pickle.dumps((work.state(), work.lanes.state())))

    tightening(network, region, 6).run(Budget(PATIENCE), keep)
    assert len(states) > 6
    for data in states:
        state, lanes = pickle.loads(data)
        again = tightening(network, region, 6)
        again.restore(state, lanes)
        model = again.run(Budget(PATIENCE))
        assert model.bounds is not None
        assert undisturbed.bounds is not None
        assert all(np.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in zip(model.bounds, undisturbed.bounds, strict=True))


def test_a_crew_tightens_as_one_process_does() -> None:
    network, region = deep_network(np.random.default_rng(5)), Box(np.full(3, -1.0), np.full(3, 1.0))
    alone = tightening(network, region, 6).run(Budget(PATIENCE))
    with Crew(NoContext(), 2) as crew:
        crew.start()
        end = time.monotonic() + 60.0
        while not crew.ready and time.monotonic() < end:
            time.sleep(0.05)
        assert crew.ready
        together = tightening(network, region, 6).run(Budget(PATIENCE), crew=crew)
    assert alone.bounds is not None
    assert together.bounds is not None
    assert all(np.allclose(a, b, rtol=1e-6, atol=1e-9) for a, b in zip(alone.bounds, together.bounds, strict=True))


class NoContext:
    """Of what a crew that only tightens needs nothing."""

    @property
    def question(self) -> Question:
        raise NotImplementedError


def test_what_a_search_has_learnt_travels() -> None:
    """Pieces of a sharpened search mean the same to a fresh question that has learnt what the first has."""
    network, box = deep_network(np.random.default_rng(3), width=8), Box(np.full(3, -1.0), np.full(3, 1.0))
    specification = robustness(box, 0, 2)
    questions = [Violation(network, targets_of(specification), "neuron", specification=specification) for _ in range(2)]
    search = Search(questions[0], batch=2)
    search.start(Budget(PATIENCE))
    question = questions[0]
    question.improve(0, Tightening(question.model(0), box, 3).run(Budget(PATIENCE)))
    search.restart(question.covering([0], 0.0))
    question.forget(search.frontier())
    other = Search(questions[1], batch=2)
    other.restore(pickle.loads(pickle.dumps(search.state())))
    assert questions[1].version == question.version
    for one in (search, other):
        one.run(Budget(PATIENCE))
    assert (search.lower >= 0, search.upper < 0) == (other.lower >= 0, other.upper < 0)


def test_a_crowded_search_answers_the_same() -> None:
    """Once memory is short, pieces are taken from the other end: the verdict stays, and fewer are open at a time."""
    network, specification, truth = drawn(11, -1e-3)
    most = []
    for memory in (None, 1.0):
        budget = Budget(PATIENCE)
        search = Search(Violation(network, targets_of(specification), "input", specification=specification), batch=4)
        search.start(budget)
        budget.memory = memory  # one byte: always crowded
        largest = 0
        while search.ended() is None:
            search.step(budget)
            largest = max(largest, search.open_pieces)
        assert search.lower <= truth <= search.upper < 0
        most.append(largest)
    assert most[1] <= most[0]
