"""Brute force in exact rational arithmetic over all linear pieces of tiny networks: what the engine is compared with.

The polytope of inputs is cut along the zero set of one neuron after the other (double description in fractions), so every cell comes as
its exact vertices, and every maximum and distance below is a Fraction: no solver, no tolerance, nothing shared with the engine.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations, pairwise, product
from math import inf

import numpy as np
import scipy.sparse as sparse
from hypothesis import strategies as st

from problems.maps import Conv, Dense, LinearMap, Sparse
from problems.network import Affine, Input, Network, Node, Relu, sequential
from problems.regions.box import Box
from problems.specification import Disjunct, Specification

Point = tuple[Fraction, ...]
Numbers = Sequence[float] | Sequence[float | Fraction] | np.ndarray
ZERO, ONE = Fraction(0), Fraction(1)


@dataclass(frozen=True)
class Form:
    """The affine function slope . x + constant."""

    slope: Point
    constant: Fraction

    def __call__(self, x: Sequence[Fraction]) -> Fraction:
        return sum((a * v for a, v in zip(self.slope, x, strict=True) if a), self.constant)

    def plus(self, other: "Form", factor: Fraction) -> "Form":
        return Form(tuple(a + factor * b for a, b in zip(self.slope, other.slope, strict=True)), self.constant + factor * other.constant)


@dataclass(frozen=True)
class Polytope:
    """A bounded polytope by its vertices, each with the set of (numbered) inequalities that are tight there."""

    vertices: tuple[tuple[Point, frozenset[int]], ...]
    inequalities: int

    def cut(self, form: Form) -> "Polytope | None":
        """The part where the form is >= 0; None if it is empty.

        A new vertex lies on every edge that the hyperplane crosses; u, v span an edge iff no third vertex is tight wherever both are.
        """
        name = self.inequalities
        values = [form(x) for x, _ in self.vertices]
        kept = [(x, tight | {name} if value == 0 else tight) for (x, tight), value in zip(self.vertices, values, strict=True) if value >= 0]
        for (i, (x, first)), (j, (y, second)) in combinations(enumerate(self.vertices), 2):
            if values[i] * values[j] >= 0:
                continue
            both = first & second
            if any(both <= tight for k, (_, tight) in enumerate(self.vertices) if k not in (i, j)):
                continue
            share = values[i] / (values[i] - values[j])
            kept.append((tuple(a + share * (b - a) for a, b in zip(x, y, strict=True)), both | {name}))
        return Polytope(tuple(kept), name + 1) if kept else None

    def range(self, form: Form) -> tuple[Fraction, Fraction]:
        values = [form(x) for x, _ in self.vertices]
        return min(values), max(values)


def exact(value: float | Fraction) -> Fraction:
    return value if isinstance(value, Fraction) else Fraction(float(value))


def box_polytope(lower: Numbers, upper: Numbers) -> Polytope:
    """The box; sides of width zero give fewer vertices."""
    sides = [sorted({(exact(low), 2 * i), (exact(high), 2 * i + 1)}) for i, (low, high) in enumerate(zip(lower, upper, strict=True))]
    vertices = []
    for corner in product(*[[(v, {k for w, k in side if w == v}) for v in sorted({w for w, _ in side})] for side in sides]):
        vertices.append((tuple(v for v, _ in corner), frozenset().union(*[names for _, names in corner])))
    return Polytope(tuple(vertices), 2 * len(sides))


def exact_rows(linear: LinearMap) -> list[list[tuple[int, Fraction]]]:
    """The rows of a map as lists of (column, exact entry)."""
    matrix, divisors = linear.rows()
    rows = []
    for i in range(matrix.shape[0]):
        part = slice(matrix.indptr[i], matrix.indptr[i + 1])
        scale = ONE if divisors is None else 1 / exact(divisors[i])
        rows.append([(int(j), exact(v) * scale) for j, v in zip(matrix.indices[part], matrix.data[part], strict=True) if v])
    return rows


def cells(network: Network, region: Polytope) -> Iterator[tuple[Polytope, list[Form]]]:
    """All linear pieces that cover the region, with the logits there as affine functions of the input."""
    n = network.input_size
    inputs = [Form(tuple(ONE if i == j else ZERO for j in range(n)), ZERO) for i in range(n)]
    maps = {i: [exact_rows(linear) for linear in node.maps] for i, node in enumerate(network.nodes) if isinstance(node, Affine)}
    nothing = Form((ZERO,) * n, ZERO)

    def affine(index: int, node: Affine, values: list[list[Form]]) -> list[Form]:
        result = []
        for row in range(node.size):
            form = Form((ZERO,) * n, exact(node.bias[row]))
            for parent, rows in zip(node.parents, maps[index], strict=True):
                for column, weight in rows[row]:
                    form = form.plus(values[parent][column], weight)
            result.append(form)
        return result

    def walk(piece: Polytope, values: list[list[Form]], decided: list[Form]) -> Iterator[tuple[Polytope, list[Form]]]:
        while len(values) < len(network.nodes):
            node = network.nodes[len(values)]
            if isinstance(node, Affine):
                values = [*values, affine(len(values), node, values)]
                continue
            assert isinstance(node, Relu)
            if len(decided) == node.size:
                values, decided = [*values, decided], []
                continue
            form = values[node.parent][len(decided)]
            low, high = piece.range(form)
            if low < 0 < high:
                for side, result in ((form, form), (nothing.plus(form, -ONE), nothing)):
                    part = piece.cut(side)
                    if part is not None:
                        yield from walk(part, values, [*decided, result])
                return
            decided = [*decided, nothing if high <= 0 else form]
        yield piece, values[-1]

    yield from walk(region, [inputs], [])


def largest_smallest(piece: Polytope, rows: Sequence[Form]) -> Fraction:
    """The exact maximum over the polytope of the smallest of the rows: where row i is the smallest it is linear."""
    best: Fraction | None = None
    for i, row in enumerate(rows):
        part: Polytope | None = piece
        for j, other in enumerate(rows):
            if j != i and part is not None:
                part = part.cut(other.plus(row, -ONE))
        if part is not None:
            value = part.range(row)[1]
            best = value if best is None else max(best, value)
    assert best is not None
    return best


def row_forms(disjunct: Disjunct, logits: Sequence[Form]) -> list[Form]:
    """The disjunct's rows as affine functions of the input on a piece."""
    n = disjunct.region.dimension
    forms = []
    for coefficients, offset, terms in zip(disjunct.exact_coefficients, disjunct.exact_offsets, disjunct.input_terms, strict=True):
        form = Form((ZERO,) * n, offset)
        for c, z in zip(coefficients, logits, strict=True):
            form = form.plus(z, c)
        for index, c in terms:
            form = form.plus(Form(tuple(ONE if index == j else ZERO for j in range(n)), ZERO), c)
        forms.append(form)
    return forms


def largest_violation(network: Network, specification: Specification) -> Fraction:
    """The exact maximum of (max over disjuncts of min over rows of the violation) over the boxes."""
    values = []
    for disjunct in specification.disjuncts:
        box = disjunct.region
        assert isinstance(box, Box)
        sides = box.exact if box.exact is not None else (box.lower, box.upper)
        values += [largest_smallest(piece, row_forms(disjunct, z)) for piece, z in cells(network, box_polytope(*sides))]
    return max(values)


def nearest_error(network: Network, x: Numbers, label: int, norm: float, lower: Numbers, upper: Numbers) -> Fraction | None:
    """min ||x' - x||^power over x' in the box with z_k >= z_label for some k != label (power 2 for norm 2, else 1); None without any."""
    center = tuple(exact(v) for v in x)
    best: Fraction | None = None
    for piece, logits in cells(network, box_polytope(lower, upper)):
        for k, logit in enumerate(logits):
            wrong = piece.cut(logit.plus(logits[label], -ONE)) if k != label else None
            if wrong is not None:
                distance = _distance(wrong, center, norm)
                best = distance if best is None else min(best, distance)
    return best


def _distance(piece: Polytope, center: Point, norm: float) -> Fraction:
    if norm == 2:
        return _squared_distance([tuple(a - c for a, c in zip(x, center, strict=True)) for x, _ in piece.vertices])
    n = len(center)
    offsets = [Form(tuple(ONE if i == j else ZERO for j in range(n)), -center[i]) for i in range(n)]
    nothing = Form((ZERO,) * n, ZERO)
    signed = [[offset, nothing.plus(offset, -ONE)] for offset in offsets]
    best: Fraction | None = None
    # The norm is linear in each orthant (1), and where one signed coordinate is the largest in size (inf).
    regions: Iterable[tuple[list[Form], Form]]
    if norm == 1:
        regions = ((list(signs), _sum(signs, nothing)) for signs in product(*signed))
    else:
        assert norm == inf
        regions = (
            ([top.plus(other, -ONE) for pair in signed for other in pair], top) for pair in signed for top in pair
        )  # fmt: skip
    for limits, size in regions:
        part: Polytope | None = piece
        for limit in limits:
            part = None if part is None else part.cut(limit)
        if part is not None:
            value = part.range(size)[0]
            best = value if best is None else min(best, value)
    assert best is not None
    return best


def _sum(forms: Sequence[Form], nothing: Form) -> Form:
    total = nothing
    for form in forms:
        total = total.plus(form, ONE)
    return total


def _squared_distance(points: list[Point]) -> Fraction:
    """The squared distance of 0 from the convex hull: Wolfe's algorithm (1976) in fractions, where it ends after finitely many steps."""

    def dot(a: Point, b: Point) -> Fraction:
        return sum((u * v for u, v in zip(a, b, strict=True)), ZERO)

    def combine(chosen: list[Point], weights: list[Fraction]) -> Point:
        return tuple(sum((w * p[i] for w, p in zip(weights, chosen, strict=True)), ZERO) for i in range(len(points[0])))

    chosen, weights = [min(points, key=lambda p: dot(p, p))], [ONE]
    while True:
        x = combine(chosen, weights)
        new = min(points, key=lambda p: dot(x, p))
        if dot(x, new) >= dot(x, x):
            return dot(x, x)
        chosen, weights = [*chosen, new], [*weights, ZERO]
        while True:
            target = _affine_minimum(chosen, dot)
            if min(target) >= 0:
                weights = target
                break
            step = min(w / (w - t) for w, t in zip(weights, target, strict=True) if t < 0)
            weights = [w + step * (t - w) for w, t in zip(weights, target, strict=True)]
            kept = [i for i, w in enumerate(weights) if w > 0]
            chosen, weights = [chosen[i] for i in kept], [weights[i] for i in kept]


def _affine_minimum(points: list[Point], dot) -> list[Fraction]:  # type: ignore[no-untyped-def]
    """Weights (sum 1, any sign) of the point of smallest norm in the affine hull of affinely independent points."""
    size = len(points)
    rows = [[dot(p, q) for q in points] + [ONE, ZERO] for p in points] + [[ONE] * size + [ZERO, ONE]]
    for column in range(size + 1):
        pivot = next(i for i in range(column, size + 1) if rows[i][column])
        rows[column], rows[pivot] = rows[pivot], rows[column]
        rows[column] = [v / rows[column][column] for v in rows[column]]
        for i in range(size + 1):
            if i != column and rows[i][column]:
                rows[i] = [v - rows[i][column] * w for v, w in zip(rows[i], rows[column], strict=True)]
    return [rows[i][-1] for i in range(size)]


# --- random networks --------------------------------------------------------------------------------------------------------------
# Everything is drawn from one seed: left to itself, hypothesis prefers zeros, and networks of zeros have one cell.

SEEDS = st.integers(0, 2**32 - 1)
SCALES = (1.0, 1.0, 1.0, 1.0, 1e-3, 1e3, 1 / 3)


def networks(*, outputs: int | None = None, most_inputs: int = 3, most_neurons: int = 8) -> st.SearchStrategy[Network]:
    """Tiny networks: layers one after the other, with residual connections, with a convolution, or affine ones."""
    return st.builds(
        lambda seed: random_network(np.random.default_rng(seed), outputs=outputs, most_inputs=most_inputs, most_neurons=most_neurons), SEEDS
    )


def random_network(generator: np.random.Generator, *, outputs: int | None = None, most_inputs: int = 3, most_neurons: int = 8) -> Network:
    n = int(generator.integers(1, most_inputs + 1))
    k = outputs if outputs is not None else int(generator.integers(2, 4))
    kind = generator.choice(["layers", "residual", "convolution", "affine"], p=[0.55, 0.25, 0.15, 0.05])
    if kind == "affine":
        return sequential([Dense(_matrix(generator, k, n))], [_vector(generator, k)], name="affine")
    if kind == "residual":
        return _residual(generator, n, k)
    if kind == "convolution":
        channels = int(generator.integers(1, 3))
        conv = Conv(_matrix(generator, channels, 2).reshape(channels, 1, 1, 2), (1, 1, n), padding=(0, 0, 0, 1))
        maps: list[LinearMap] = [conv, Dense(_matrix(generator, k, conv.out_size))]
        return sequential(maps, [_vector(generator, conv.out_size), _vector(generator, k)], name="convolution")
    sizes = [n]
    for _ in range(int(generator.integers(1, 4))):
        left = most_neurons - sum(sizes[1:])
        if left > 0:
            sizes.append(int(generator.integers(min(2, left), min(4, left) + 1)))
    sizes.append(k)
    layers = [Dense(_matrix(generator, b, a)) for a, b in pairwise(sizes)]
    return sequential(layers, [_vector(generator, size) for size in sizes[1:]], name="layers")


def _residual(generator: np.random.Generator, n: int, k: int) -> Network:
    """h = relu(A x + a), g = relu(B h + C x + b), output D g + E h + F x + d; now and then a map divides (exact rational rows)."""
    first, second = int(generator.integers(1, 4)), int(generator.integers(1, 4))

    def dense(rows: int, columns: int) -> Dense:
        return Dense(_matrix(generator, rows, columns))

    nodes: list[Node] = [Input(n), Affine((0,), (dense(first, n),), _vector(generator, first)), Relu(1, first)]
    nodes += [Affine((2, 0), (dense(second, first), dense(second, n)), _vector(generator, second)), Relu(3, second)]
    shared: LinearMap = dense(k, first)
    bias = _vector(generator, k)
    if generator.random() < 0.5:
        shared = Sparse(sparse.csr_matrix(_matrix(generator, k, first)), np.full(k, 3.0))
        bias = np.zeros(k)
    nodes.append(Affine((4, 2, 0), (dense(k, second), shared, dense(k, n)), bias))
    return Network(tuple(nodes), (n,), (k,), name="residual")


def _matrix(generator: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Quarters (ties and cancellations happen) or normal numbers, times a scale; now and then a zero, repeated or opposite row."""
    if generator.random() < 0.4:
        weights = generator.integers(-8, 9, (rows, columns)) / 4.0
    else:
        weights = generator.standard_normal((rows, columns)) * generator.choice(SCALES)
    for row in range(1, rows):
        kind = generator.integers(0, 12)
        if kind < 3:
            weights[row] = weights[row - 1] * (0.0, 1.0, -2.0)[kind]
    return weights


def _vector(generator: np.random.Generator, size: int) -> np.ndarray:
    vector = generator.integers(-4, 5, size) / 4.0 if generator.random() < 0.4 else generator.standard_normal(size) * 0.5
    if size and generator.random() < 0.1:
        vector[generator.integers(size)] = -1e6  # a dead neuron, or a class far behind
    return vector


def random_box(generator: np.random.Generator, dimension: int) -> Box:
    """A box near 0; now and then its ends are no float64 numbers, or some of its sides have width zero (and hold one)."""
    rounded = generator.random() < 0.5
    lower = [Fraction(int(generator.integers(-12, 5)), 10 if rounded else 4) for _ in range(dimension)]
    widths = [Fraction(int(generator.choice([1, 4, 8, 8, 16, 16] if rounded else [0, 0, 4, 8, 8, 16, 16])), 4) for _ in range(dimension)]
    return Box.from_exact(lower, [low + width for low, width in zip(lower, widths, strict=True)])


def boxes(dimension: int) -> st.SearchStrategy[Box]:
    return st.builds(lambda seed: random_box(np.random.default_rng(seed), dimension), SEEDS)


def sample(box: Box, count: int, seed: int = 0) -> np.ndarray:
    """Points (count, n) of the box: corners and random ones."""
    generator = np.random.default_rng(seed)
    lower, upper = box.inner
    share = generator.random((count, box.dimension))
    share[: count // 3] = np.round(share[: count // 3])
    return np.clip(lower + share * (upper - lower), lower, upper)
