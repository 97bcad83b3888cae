"""POT's network simplex: plans and potentials in floating point, as suggestions for what is then proved."""

import os

import numpy as np

Array = np.ndarray

for name in ("PYTORCH", "JAX", "TENSORFLOW", "CUPY"):  # back ends that take seconds to import
    os.environ.setdefault(f"POT_BACKEND_DISABLE_{name}", "1")


def plan(give: Array, take: Array, lengths: Array) -> tuple[Array, Array]:
    """(flow (A, B), potential of the takers (B,)) of least cost from masses give (A,) to take (B,) over lengths (A, B)."""
    import ot

    total = give.sum()
    flow, log = ot.emd(give / total, take / take.sum(), lengths, log=True, check_marginals=False)
    return flow * total, np.asarray(log["v"])
