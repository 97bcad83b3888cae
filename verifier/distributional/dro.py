"""`dro`: the worst expected loss over a Wasserstein ball around the data, one interface for all losses."""

from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from problems.errors import InputError
from problems.regions.base import Region
from verifier.distributional.worst_case import WorstCase

LOSSES = ("zero-one", "margin", "cross-entropy")


def dro(
    network: Any,
    data: Any,
    *,
    loss: str = "zero-one",
    norm: float | str,
    order: float | str,
    epsilon: Sequence[float] | float,
    region: Region | None = None,
    samples: str | slice | None = None,
    label_cost: float | None = None,
    timeout: float | None = None,
    memory: float | None = None,
    workers: int | None = None,
    device: str = "cpu",
    solver: str = "auto",
    tolerance: float = 1e-6,
    seed: int = 0,
    semantics: str = "real",
    restarts: int = 10,
    executor: Executor | str | None = None,
    resume: str | Path | None = None,
    lines: bool = True,
) -> list[WorstCase]:
    """V_p(eps), the largest expected loss over distributions within p-Wasserstein distance eps of the data, one bracket for each eps.

    network: Network, torch module, path or bundled name. data: a data set or its name. loss: "zero-one" (the value is then the worst-case
    error), "margin" or "cross-entropy". norm: of the ground cost, order: p, each 1, 2 or inf. region: a Box, for the other losses also a
    Polytope, bounded or not; None for the data's own domain, R^n where it has none.

    label_cost: None (labels never move), or C > 0: the ground metric on samples is then d((x, y), (x', y')) = ‖x - x'‖ + C 1[y != y'].
    Zero-one: a moved label is an error at once, so that a sample costs min(r_i, C). Margin and cross-entropy: phi_i(lam) is the largest
    over y' of sup loss_{y'}(x) - lam (‖x - x_i‖ + C 1[y' != y_i]); for order inf the label moves where C <= eps, and x then within eps - C;
    not for order 2, where (‖x - x_i‖ + C)^2 penalises the distance twice.

    The lower end is an explicit distribution (`distribution`), evaluated on the network; the upper end the dual objective (W1) at proven
    upper bounds of the phi_i. A bracket is closed when upper - lower <= tolerance (upper - E); for zero-one when <= tolerance. timeout
    in seconds for the whole call: when it ends, or on Ctrl-C, the brackets reached are returned. lines: whether L, kappa* and lambda_0 are
    computed as well, in 15 % of the time (20 s where it is not limited). executor, resume: as for `radius`; `resume` keeps what was proved
    of each phi_i. restarts: of the attack of zero-one. semantics: "float32" for zero-one only.
    Trusted: IEEE arithmetic, the error bounds of matrix products, and this code. Raises InputError on bad input; DLR is refused, because it
    is scale-invariant and jumps where the first and third logit meet, so that no finite certificate exists.
    """
    if loss not in LOSSES:
        reason = f"{loss!r} is not available."
        if loss == "dlr":
            reason = "DLR has no finite certificate: it is scale-invariant, and jumps where the first and the third logit meet."
        raise InputError("loss", reason, f"Choose one of {', '.join(LOSSES)}; DLR serves attacks.")
    shared: dict[str, Any] = {
        "norm": norm, "order": order, "epsilon": epsilon, "region": region, "samples": samples, "label_cost": label_cost,
        "timeout": timeout, "memory": memory, "workers": workers, "device": device, "solver": solver, "tolerance": tolerance, "seed": seed,
        "semantics": semantics, "executor": executor, "resume": resume,
    }  # fmt: skip
    if loss == "zero-one":
        from verifier.distributional.zero_one import worst_errors

        return worst_errors(network, data, restarts=restarts, **shared)
    from verifier.distributional.expected import expected

    return expected(network, data, loss=loss, lines=lines, **shared)
