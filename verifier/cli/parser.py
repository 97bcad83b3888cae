"""The grammar of the command line: commands, options, and what their values may be."""

import argparse
import re
from math import inf, isnan
from typing import Any, NoReturn

from problems.errors import InputError
from verifier import __version__
from verifier.search.budget import DEFAULT_MEMORY

NORMS = {"1": 1.0, "2": 2.0, "inf": inf}
WASSERSTEIN = "wasserstein"
CAPABILITIES = (
    "onnx-opset-versions",
    "onnx-element-types",
    "onnx-operators",
    "onnx-operators-unsat-proofs",
    "vnnlib-versions",
    "hidden-node-theories",
    "multiple-input-output-theories",
    "multiple-network-theories",
    "multiple-node-comparison-theories",
    "arithmetic-complexity-theories",
    "optimised-disjunctive-reasoning",
    "serialise-assignments",
    "unsat-proofs",
)


class UsageError(InputError):
    """A command line that does not parse."""


class Parser(argparse.ArgumentParser):
    """Raises UsageError instead of ending the process, takes no abbreviations, and knows -1e4 and -inf for numbers."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)
        # argparse takes what looks like a negative number for a value, not an option, but has not always known exponents.
        self._negative_number_matcher = re.compile(r"-(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?(,.*)?$|-inf(inity)?$")

    def error(self, message: str) -> NoReturn:
        raise UsageError(self.prog, f"{message}.", f"See {self.prog} --help.")


def number(text: str) -> float:
    """A real number or infinity."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if isnan(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return value


def not_negative(text: str) -> float:
    value = number(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return value


def positive(text: str) -> float:
    value = number(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return value


def classes(text: str) -> list[int]:
    """Class numbers separated by commas."""
    if not re.fullmatch(r"\d+(,\d+)*", text, flags=re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of class numbers such as 0,1")
    return [int(part) for part in text.split(",")]


def count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number 1, 2, 3, ...")
    return int(text)


def seed(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number 0, 1, 2, ...")
    return int(text)


def radii(text: str) -> tuple[float, ...]:
    """E1,E2,...: finite and not negative."""
    values = tuple(not_negative(part.strip()) for part in text.split(","))
    if inf in values:
        raise argparse.ArgumentTypeError("an epsilon is infinite")
    return values


def norm(text: str) -> float:
    if text not in NORMS:
        raise argparse.ArgumentTypeError(f"{text!r} is none of 1, 2, inf")
    return NORMS[text]


def norm_of_images(text: str) -> float | str:
    """A norm, or the Wasserstein distance of images."""
    return text if text == WASSERSTEIN else norm(text)


def build() -> Parser:
    """The parser of `tightcert`; `command` names the command that was given."""
    parser = Parser(prog="tightcert", description="Exact answers about piecewise-affine (ReLU) networks.")
    parser.add_argument("--version", action="version", version=__version__, help="print the version and exit")
    parser.add_argument("--name", action="version", version="tightcert", help="print the name and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _verify(commands)
    _radius(commands)
    _dro(commands)
    _attack(commands)
    _cells(commands)
    _lipschitz(commands)
    _tightness(commands)
    _optimal_risk(commands)
    _audit(commands)
    supports = commands.add_parser("supports", help="what is supported, as VNN-LIB 2.0 prescribes")
    supports.add_argument("--json", action="store_true", help="one JSON object on standard output")
    for capability in CAPABILITIES:
        supports.add_argument(f"--{capability}", dest="capabilities", action="append_const", const=capability)
    return parser


def _verify(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("verify", help="is a VNN-LIB property true of a network?")
    parser.add_argument("specification", metavar="SPEC.vnnlib", help="the property, VNN-LIB 1.0 or 2.0, plain or .gz")
    _network(parser)
    parser.add_argument("--method", choices=("auto", "cells", "milp"), default="auto", help="how to search (default auto)")
    _resumable(parser, "the search")
    _spreadable(parser)
    _everywhere(parser)


def _radius(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("radius", help="how far is the nearest misclassified input of each sample? (--timeout is per sample)")
    _network(parser)
    _data(parser)
    parser.add_argument("--norm", type=norm_of_images, required=True, metavar="1|2|inf|wasserstein", help="the norm of the distance")
    _transport(parser)
    _region(parser)
    _resumable(parser, "radii and searches")
    _spreadable(parser)
    _everywhere(parser)


def _dro(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("dro", help="how bad can the expected loss get in a Wasserstein ball around the data?")
    _network(parser)
    _data(parser)
    parser.add_argument("--loss", default="zero-one", metavar="zero-one|margin|cross-entropy", help="the loss (default zero-one)")
    parser.add_argument("--norm", type=norm, required=True, metavar="1|2|inf", help="the norm of the ground cost")
    parser.add_argument("--order", type=norm, required=True, metavar="1|2|inf", help="the order of the Wasserstein distance")
    parser.add_argument("--epsilon", type=radii, required=True, metavar="E1,E2,...", help="radii of the ball")
    parser.add_argument("--label-cost", type=positive, metavar="C", help="the cost of moving a label (default: labels never move)")
    parser.add_argument("--export", metavar="FILE.npz", help="write the worst distributions found: atoms, their mass, losses and costs")
    _region(parser)
    _resumable(parser, "radii and searches")
    _spreadable(parser)
    _everywhere(parser)


def _attack(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("attack", help="search for misclassified inputs near each sample, or for a shift of all of them")
    methods = "pgd, apgd (point-wise), wda, wda++, w-pgd (distributional), frank-wolfe, flow-gradient (Wasserstein distance of images)"
    parser.add_argument("--method", required=True, metavar="NAME", help=f"the attack: {methods}")
    _network(parser)
    _data(parser)
    parser.add_argument("--norm", type=norm_of_images, required=True, metavar="1|2|inf|wasserstein", help="the norm of the perturbation")
    text = "the largest perturbation of a sample; of distributional attacks the Wasserstein distance"
    parser.add_argument("--epsilon", type=not_negative, required=True, metavar="E", help=text)
    parser.add_argument("--steps", type=count, default=50, metavar="N", help="ascent steps (default 50)")
    parser.add_argument("--restarts", type=count, default=5, metavar="N", help="random starts (default 5)")
    parser.add_argument("--loss", choices=("ce", "dlr", "redlr", "margin"), help="what to ascend (default dlr; w-pgd: redlr)")
    parser.add_argument("--order", type=norm, metavar="1|2|inf", help="of the Wasserstein distance (default 1; w-pgd, 2 or inf: 2)")
    parser.add_argument("--copies", type=count, metavar="K", help="wda: the weight 1/K moves, K^(1/p) times as far (default 2)")
    parser.add_argument("--points", type=count, metavar="M", help="wda: over how many points that weight is spread (default 1)")
    parser.add_argument("--allocation", choices=("greedy", "random"), help="wda++: whom the budget goes to (default greedy)")
    _transport(parser, for_radii=False)
    _region(parser)
    _everywhere(parser)


def _cells(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("cells", help="how many activation cells has a network on a region?")
    _network(parser)
    _data(parser, required=False)
    _region(parser)
    _everywhere(parser)
    parser.set_defaults(tolerance=1e-9)  # on the inscribed radius of a cell


def _lipschitz(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("lipschitz", help="how steep can a network be, on a region or everywhere?")
    _network(parser)
    parser.add_argument("--input-norm", type=norm, required=True, metavar="1|2|inf", help="the norm in which inputs are measured")
    text = "output:K, pair:K,Y (output K minus Y), margin:Y (the largest other output minus Y), vector:1|2|inf (all outputs, in that norm)"
    parser.add_argument("--of", required=True, metavar="OF", help=text)
    parser.add_argument("--method", choices=("auto", "cells", "search", "milp"), default="auto", help="how to find it (default auto)")
    _data(parser, required=False)
    _region(parser)
    _everywhere(parser)


def _tightness(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "tightness", help="is the Lipschitz bound on the worst expected margin attained? L, l, kappa* and how often"
    )
    _network(parser)
    parser.add_argument("--norm", type=norm, required=True, metavar="1|2|inf", help="the norm of the inputs")
    parser.add_argument(
        "--labels", type=classes, metavar="Y1,Y2,...", help="the labels that are present (default: those of --data, or all)"
    )
    _data(parser, required=False)
    _region(parser)
    parser.add_argument("--picture", metavar="FILE", help="draw the cells to FILE.svg or .png: two inputs, or the plane of three samples")
    _everywhere(parser)


def _optimal_risk(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("optimal-risk", help="how small can the adversarial risk of any classifier be between two classes?")
    _data(parser)
    parser.add_argument("--classes", type=classes, required=True, metavar="A,B", help="the two labels")
    text = "what a perturbation is measured in; wasserstein moves the mass of normalised images, in pixels"
    parser.add_argument("--norm", type=norm_of_images, required=True, metavar="1|2|inf|wasserstein", help=text)
    parser.add_argument("--epsilon", type=radii, required=True, metavar="E1,E2,...", help="how far each sample may move")
    text = "empirical: every sample weighs the same (default); equal: both classes do"
    parser.add_argument("--priors", choices=("empirical", "equal"), default="empirical", help=text)
    _everywhere(parser)


def _audit(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("audit", help="the whole story of a network as one HTML report")
    _network(parser, default="digits-16x2")
    _data(parser, default="digits:test")
    parser.add_argument("-o", "--output", default="report", metavar="DIR", help="where the report goes (default report)")
    text = "seconds for all but the radii: worst expected losses, other certificates, tightness (default 240; 0: none of them)"
    parser.add_argument("--budget", type=not_negative, default=240.0, metavar="S", help=text)
    _spreadable(parser)
    _everywhere(parser)


def _network(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    text = "an ONNX or .npz file, or digits-16x2, digits-32x2, digits-conv" + (f" (default {default})" if default else "")
    parser.add_argument("--network", required=default is None, default=default, metavar="NETWORK", help=text)


def _data(parser: argparse.ArgumentParser, default: str | None = None, *, required: bool = True) -> None:
    text = "digits:test, digits:train, mnist:FOLDER, or FILE.npz with arrays x and y" + (f" (default {default})" if default else "")
    parser.add_argument("--data", required=required and default is None, default=default, metavar="DATA", help=text)
    parser.add_argument("--samples", metavar="A:B", help="which rows (default all)")


def _region(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("region", "where inputs may lie; without one, [0,1] for digits and MNIST, all of R^n for a file")
    group.add_argument("--box", type=number, nargs=2, metavar=("LO", "HI"), help="every input in [LO, HI]")
    group.add_argument("--all-space", action="store_true", help="all of R^n")
    group.add_argument("--region", metavar="FILE.vnnlib", help="the input part of a property")
    group.add_argument("--box-center", metavar="FILE.npz", help="a ball around row 0 of its array X, not clipped; needs --radius")
    group.add_argument(
        "--radius", type=not_negative, metavar="R", help="of the ball around --box-center, or around the one sample of --samples I"
    )
    group.add_argument("--ball", type=norm, metavar="1|2|inf", help="the norm of that ball (default inf)")


def _transport(parser: argparse.ArgumentParser, *, for_radii: bool = True) -> None:
    group = parser.add_argument_group("wasserstein", "distances between images of mass 1; without a region, for mass is kept")
    group.add_argument("--ground", choices=("l1", "l2"), help="the distance of two pixels (default l1)")
    group.add_argument("--pixels", choices=("simplex", "image"), help="pixels >= 0, or in [0, 1] (default simplex)")
    names = ("vanilla", "feasible", "reference", "both", "complete-vanilla", "complete-reference", "complete-feasible")
    if for_radii:
        group.add_argument("--picture", metavar="FILE", help="draw images, flows and radii to FILE.svg or .png")
        group.add_argument("--configuration", choices=names, metavar="NAME", help=f"{', '.join(names)} (default, the exact one)")


def _spreadable(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--executor", metavar="dask://HOST:PORT", help="run on a Dask cluster instead (pip install 'tightcert[cluster]')")


def _resumable(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--resume", metavar="FILE", help=f"keep {what} in FILE, and go on from there when the same command is given again")


def _everywhere(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="standard output carries JSON only, one object per line")
    parser.add_argument("--timeout", type=not_negative, metavar="S", help="seconds, then the bracket reached is the answer")
    parser.add_argument(
        "--memory", type=positive, metavar="GB", help=f"memory limit of a process, same effect (default {DEFAULT_MEMORY:g})"
    )
    parser.add_argument("--workers", type=count, metavar="N", help="parallel workers (default: the cores of the machine)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where attacks run (default cpu)")
    parser.add_argument("--solver", default="auto", metavar="NAME", help="highs, gurobi, clarabel, ... (default auto)")
    parser.add_argument("--tolerance", type=not_negative, default=1e-6, metavar="T", help="relative gap at which to stop (default 1e-6)")
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="of everything random (default 0)")
    parser.add_argument("--semantics", choices=("real", "float32"), default="real", help="what the answer is about (default real)")
