"""Programs that know their answer: the one declarative table that every backend is run through."""

from dataclasses import dataclass
from fractions import Fraction
from math import inf, sqrt
from typing import Any

import numpy as np

from solvers import Cone, Program, Status

INFEASIBLE = {Status.INFEASIBLE, Status.CLAIMED_INFEASIBLE, Status.INFEASIBLE_OR_UNBOUNDED}
UNBOUNDED = {Status.UNBOUNDED, Status.INFEASIBLE_OR_UNBOUNDED}


@dataclass(frozen=True, eq=False)
class Known:
    """A program and its exact minimum (inf: infeasible, -inf: unbounded). `gap`: how far the safe bound may stay below it (None: any);
    `lies`: backends known to claim another minimum, with no warning."""

    name: str
    program: Program
    minimum: Fraction | float
    gap: float | None = 1e-6
    lies: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return self.name


def random_program(seed: int, rows: int = 20, variables: int = 30, **more: Any) -> Program:
    """A feasible bounded random program with rows of one and of two sides."""
    generator = np.random.default_rng(seed)
    matrix = generator.standard_normal((rows, variables)) * (generator.random((rows, variables)) < 0.5)
    inside = generator.uniform(-1, 1, variables)
    sides = matrix @ inside
    return Program(
        cost=generator.standard_normal(variables),
        matrix=matrix,
        row_lower=np.where(generator.random(rows) < 0.5, sides - generator.random(rows), -inf),
        row_upper=sides + generator.random(rows),
        lower=np.full(variables, -1.0),
        upper=np.full(variables, 1.0),
        **more,
    )


# The minimum of each is derived by hand in the comment above it.
TABLE = [
    # x + y >= 1, x, y in [0, 4], cost 2x + 3y: x = 1.
    Known("lp", Program(cost=[2, 3], matrix=[[1, 1]], row_lower=[1], row_upper=[inf], lower=[0, 0], upper=[4, 4], offset=5), Fraction(7)),
    # -x - y <= -3 against x + y <= 2.
    Known(
        "lp infeasible",
        Program(cost=[1, 1], matrix=[[1, 1], [1, 1]], row_lower=[3, -inf], row_upper=[inf, 2], lower=[-9, -9], upper=[9, 9]),
        inf,
    ),
    # the box alone is at odds with the row.
    Known(
        "lp infeasible by its bounds", Program(cost=[0, 0], matrix=[[1, 2]], row_lower=[7], row_upper=[8], lower=[0, 0], upper=[2, 2]), inf
    ),
    # free variables: x - y = 1 and y - x = 1.
    Known(
        "lp infeasible with free variables",
        Program(cost=[0, 0], matrix=[[1, -1], [-1, 1]], row_lower=[1, 1], row_upper=[1, 1], lower=[-inf, -inf], upper=[inf, inf]),
        inf,
    ),
    Known("lp unbounded", Program(cost=[-1, 0], matrix=[[0, 1]], row_lower=[-inf], row_upper=[1], lower=[0, 0], upper=[inf, 5]), -inf),
    # three rows meet at (1, 1), where the minimum of -x - y lies.
    Known(
        "lp degenerate",
        Program(
            cost=[-1, -1], matrix=[[1, 0], [0, 1], [1, 1], [2, 1]], row_lower=[-inf] * 4, row_upper=[1, 1, 2, 3], lower=[0, 0], upper=[9, 9]
        ),
        Fraction(-2),
    ),
    # x free, x >= y - 2, x >= -y, cost x: y = 1 gives -1.
    Known(
        "lp free variable",
        Program(cost=[1, 0], matrix=[[1, -1], [1, 1]], row_lower=[-2, 0], row_upper=[inf, inf], lower=[-inf, -5], upper=[inf, 5]),
        Fraction(-1),
    ),
    # z = 2x - y + 1, both inputs in [0, 1], minimise z: x = 0, y = 1.
    Known(
        "lp equality row defines a free variable",
        Program(cost=[0, 0, 1], matrix=[[2, -1, -1]], row_lower=[-1], row_upper=[-1], lower=[0, 0, -inf], upper=[1, 1, inf]),
        Fraction(0),
    ),
    # x fixed at 3, y >= 1 - x, cost x + y with y in [-5, 5]: y = -2.
    Known(
        "lp fixed variable",
        Program(cost=[1, 1], matrix=[[1, 1]], row_lower=[1], row_upper=[inf], lower=[3, -5], upper=[3, 5]),
        Fraction(1),
    ),
    Known("lp without rows", Program(cost=[1, -2, 0], lower=[-1, -1, 0], upper=[2, 3, 1], offset=0.5), Fraction(-13, 2)),
    # -1 <= x - y <= 1 with x at its upper bound 4, minimise y: 3.
    Known(
        "lp two-sided row", Program(cost=[0, 1], matrix=[[1, -1]], row_lower=[-1], row_upper=[1], lower=[4, -9], upper=[4, 9]), Fraction(3)
    ),
    Known(
        "lp empty row",
        Program(cost=[1], matrix=np.zeros((2, 1)), row_lower=[-1, -inf], row_upper=[1, 0], lower=[2], upper=[3]),
        Fraction(2),
    ),
    # rows 1e-9 (x + y) >= 1e-9 and 1e9 (x - y) <= 1e9, cost x + 2y on [0, 10]^2: x = 1, y = 0.
    Known(
        "lp badly scaled rows",
        Program(
            cost=[1, 2], matrix=[[1e-9, 1e-9], [1e9, -1e9]], row_lower=[1e-9, -inf], row_upper=[inf, 1e9], lower=[0, 0], upper=[10, 10]
        ),
        Fraction(1),
        lies=frozenset({"scipy", "cvxpy"}),  # HiGHS as they call it drops the entries 1e-9, and claims 0
    ),
    # knapsack 5, 4, 3 weights 2, 3, 1 capacity 5: all of 5 and 4 weigh 5: 9.
    Known(
        "milp",
        Program(
            cost=[-5, -4, -3],
            matrix=[[2, 3, 1], [4, 1, 2], [3, 4, 2]],
            row_lower=[-inf] * 3,
            row_upper=[5, 11, 8],
            lower=[0] * 3,
            upper=[1] * 3,
            integer=[True] * 3,
        ),
        Fraction(-9),
        None,
    ),
    # 2x = 1 has no integer solution, though its relaxation has one.
    Known(
        "milp infeasible",
        Program(cost=[0], matrix=[[2]], row_lower=[1], row_upper=[1], lower=[-5], upper=[5], integer=[True]),
        inf,
        None,
    ),
    # binary x beside a continuous y that falls for ever.
    Known(
        "milp unbounded",
        Program(cost=[1, 1], matrix=[[1, 1]], row_lower=[-inf], row_upper=[5], lower=[0, -inf], upper=[1, inf], integer=[True, False]),
        -inf,
        None,
    ),
    # relu(x) = y by big-M on [-2, 3], max y - x / 2 = 3/2 at x = 3; cost negated.
    Known(
        "milp relu",
        Program(
            cost=[0.5, -1, 0],
            matrix=[[-1, 1, 2], [-1, 1, 0], [0, 1, -3]],
            row_lower=[-inf, 0, -inf],
            row_upper=[2, inf, 0],
            lower=[-2, 0, 0],
            upper=[3, 3, 1],
            integer=[False, False, True],
        ),
        Fraction(-3, 2),
        None,
    ),
    # 1/2 x^2 + 1/2 y^2 with x + y >= 2: (1, 1).
    Known(
        "qp",
        Program(cost=[0, 0], matrix=[[1, 1]], row_lower=[2], row_upper=[inf], lower=[-9, -9], upper=[9, 9], quadratic=[1, 1]),
        Fraction(1),
    ),
    # unbounded variables: x^2 - 2x + y with y >= x, y >= -x: at x = 1/2: 1/4 - 1 + 1/2.
    Known(
        "qp with free variables",
        Program(
            cost=[-2, 1],
            matrix=[[-1, 1], [1, 1]],
            row_lower=[0, 0],
            row_upper=[inf, inf],
            lower=[-inf, -5],
            upper=[inf, 5],
            quadratic=[2, 0],
        ),
        Fraction(-1, 4),
    ),
    # 3/2 x^2 - x on [1, 4]: at the lower bound.
    Known("qp at a bound", Program(cost=[-1], lower=[1], upper=[4], quadratic=[3]), Fraction(1, 2)),
    Known(
        "qp infeasible",
        Program(
            cost=[0, 0], matrix=[[1, 1], [1, 1]], row_lower=[3, -inf], row_upper=[inf, 2], lower=[-9] * 2, upper=[9] * 2, quadratic=[1, 1]
        ),
        inf,
    ),
    # x + y on the disc around (1, 0) of radius 2.
    Known("socp", Program(cost=[1, 1], lower=[-9, -9], upper=[9, 9], cones=[Cone([0, 1], [1, 0], 2)]), 1 - 2 * sqrt(2)),
    # the same without bounds: the cone implies them.
    Known("socp without bounds", Program(cost=[1, 1], lower=[-inf] * 2, upper=[inf] * 2, cones=[Cone([0, 1], [1, 0], 2)]), 1 - 2 * sqrt(2)),
    # x + y + z with x - y = 0 on the unit ball: 2a^2 + z^2 = 1, -(sqrt 3).
    Known(
        "socp with a row",
        Program(
            cost=[1, 1, 1],
            matrix=[[1, -1, 0]],
            row_lower=[0],
            row_upper=[0],
            lower=[-2] * 3,
            upper=[2] * 3,
            cones=[Cone([0, 1, 2], [0, 0, 0], 1)],
        ),
        -sqrt(3),
    ),
    # two discs that do not meet.
    Known(
        "socp infeasible",
        Program(cost=[0, 0], lower=[-9] * 2, upper=[9] * 2, cones=[Cone([0, 1], [0, 0], 1), Cone([0, 1], [3, 0], 1.5)]),
        inf,
    ),
    # distance from (3, 0) to the unit disc: 1/2 (3 - 1)^2 - 9/2 as the constant is left out.
    Known(
        "qp over a cone",
        Program(cost=[-3, 0], lower=[-9, -9], upper=[9, 9], quadratic=[1, 1], cones=[Cone([1, 0], [0, 0], 1)]),
        Fraction(-5, 2),
    ),
    # the longest step in direction (1, 1) inside the disc of radius 5/2 on integers: (1, 2) or (2, 1).
    Known(
        "misocp",
        Program(cost=[-1, -1], lower=[-9, -9], upper=[9, 9], integer=[True, True], cones=[Cone([0, 1], [0, 0], 2.5)]),
        Fraction(-3),
        None,
    ),
    # 1/2 x^2 - 5/4 x, x integer: 1.
    Known("miqp", Program(cost=[-1.25], lower=[-4], upper=[4], quadratic=[1], integer=[True]), Fraction(-3, 4), None),
]
