"""How the bundled networks were made: `python -m problems.bundled.train` writes them, `--check` compares what it would write.

Adversarial training (Madry et al. 2018: every batch is replaced by its l_inf projected gradient attack) with Adam, so that radii are large
enough to be interesting. For the same file on every machine: float64 throughout, one thread, plain kernels instead of those
of the processor at hand, NumPy's frozen RandomState, and weights rounded at the end to multiples of 2^-16 (which also keeps
exact arithmetic on them cheap). The same torch release gives the same bytes; another one may not, and `--check` says so.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from problems.bundled import FOLDER
from problems.data import digits_split

Array = np.ndarray
Layer = tuple[str, Array, Array]

GRID = 2.0**16
BATCH = 64
# name: (layers, epochs, attack radius, seed). A layer is (dense, inputs, outputs) or (conv, channels in, out): 3x3, stride 2, padding 1.
RECIPES: dict[str, tuple[tuple[tuple[str, int, int], ...], int, float, int]] = {
    "digits-16x2": ((("dense", 64, 16), ("dense", 16, 16), ("dense", 16, 10)), 60, 0.1, 1),
    "digits-32x2": ((("dense", 64, 32), ("dense", 32, 32), ("dense", 32, 10)), 60, 0.12, 2),
    "digits-conv": ((("conv", 1, 6), ("conv", 6, 8), ("dense", 32, 10)), 60, 0.1, 3),
}


def train(name: str) -> list[Layer]:
    """The layers (kind, float32 weights, float32 bias) of the bundled network `name`."""
    # Before torch is loaded: arithmetic that does not depend on the processor.
    os.environ.update(MKL_CBWR="COMPATIBLE", ATEN_CPU_CAPABILITY="default", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
    import torch

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    layers, epochs, radius, seed = RECIPES[name]
    random = np.random.RandomState(seed)
    images, labels = digits_split("train")
    parameters = []
    for kind, inputs, outputs in layers:
        shape = (outputs, inputs) if kind == "dense" else (outputs, inputs, 3, 3)
        fan_in = np.prod(shape[1:])
        parameters.append(torch.tensor(random.uniform(-1, 1, shape) * np.sqrt(6 / fan_in), requires_grad=True))
        parameters.append(torch.zeros(outputs, dtype=torch.float64, requires_grad=True))
    optimiser = torch.optim.Adam(parameters, lr=5e-3, weight_decay=1e-4)
    steps = epochs * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=1e-2, total_steps=steps)
    for epoch in range(epochs):
        order = random.permutation(len(images))
        warm = radius * min(1.0, 2 * epoch / epochs)  # the attack grows over the first half
        for start in range(0, len(images) - BATCH + 1, BATCH):
            chosen = order[start : start + BATCH]
            x, y = torch.tensor(images[chosen]), torch.tensor(labels[chosen])
            noise = torch.tensor(random.uniform(-1, 1, x.shape))
            x = _attack(parameters, layers, x, y, noise, warm)
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(_logits(parameters, layers, x), y).backward()
            optimiser.step()
            schedule.step()
    rounded = [(np.round(p.detach().numpy() * GRID) / GRID).astype(np.float32) for p in parameters]
    return [(kind, rounded[2 * i], rounded[2 * i + 1]) for i, (kind, _, _) in enumerate(layers)]


def _logits(parameters: Sequence[Any], layers: Sequence[tuple[str, int, int]], x: Any) -> Any:
    from torch.nn import functional

    if layers[0][0] == "conv":
        x = x.reshape(-1, 1, 8, 8)
    for i, (kind, _, _) in enumerate(layers):
        weights, bias = parameters[2 * i : 2 * i + 2]
        x = functional.conv2d(x, weights, bias, stride=2, padding=1) if kind == "conv" else x.flatten(1) @ weights.T + bias
        if i < len(layers) - 1:
            x = x.relu()
    return x


def _attack(parameters: Sequence[Any], layers: Sequence[tuple[str, int, int]], x: Any, y: Any, noise: Any, radius: float) -> Any:
    """Projected gradient ascent on the cross-entropy in the l_inf ball of `radius` around x (B, 64), in [0, 1], from x + radius noise."""
    import torch

    moved = (x + radius * noise).clamp(0, 1)
    for _ in range(5):
        moved.requires_grad_(True)
        loss = torch.nn.functional.cross_entropy(_logits(parameters, layers, moved), y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, moved)
        moved = torch.clamp(moved.detach() + 0.5 * radius * gradient.sign(), x - radius, x + radius).clamp(0, 1)
    return moved


def model(name: str, layers: Sequence[Layer]) -> bytes:
    """The ONNX file of the layers: Gemm, Conv, Relu and Flatten in float32, opset 13, any batch size."""
    from onnx import TensorProto, checker, helper, numpy_helper

    nodes, stored, current = [], [], "input"
    for i, (kind, weights, bias) in enumerate(layers):
        names = [f"weights{i}", f"bias{i}"]
        stored += [numpy_helper.from_array(array, label) for array, label in zip((weights, bias), names, strict=True)]
        if kind == "conv":
            options: dict[str, Any] = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
            nodes.append(helper.make_node("Conv", [current, *names], [f"affine{i}"], name=f"conv{i}", **options))
        else:
            if i and layers[i - 1][0] == "conv":
                nodes.append(helper.make_node("Flatten", [current], ["flat"], name="flatten", axis=1))
                current = "flat"
            nodes.append(helper.make_node("Gemm", [current, *names], [f"affine{i}"], name=f"dense{i}", transB=1))
        current = f"affine{i}"
        if i < len(layers) - 1:
            nodes.append(helper.make_node("Relu", [current], [f"relu{i}"], name=f"relu{i}"))
            current = f"relu{i}"
    shape: list[str | int | None] = ["batch", 1, 8, 8] if layers[0][0] == "conv" else ["batch", 64]
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)]
    outputs = [helper.make_tensor_value_info(current, TensorProto.FLOAT, ["batch", 10])]
    graph = helper.make_graph(nodes, name, inputs, outputs, stored)
    result = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8, producer_name="tightcert")
    checker.check_model(result, full_check=True)
    return result.SerializeToString(deterministic=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the bundled networks, or compare them with what would be written (exit status 1 where they differ)."""
    parser = argparse.ArgumentParser(prog="python -m problems.bundled.train", description=main.__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", default=[], help=f"of {', '.join(RECIPES)}; all without a name")
    parser.add_argument("--check", action="store_true", help="write nothing; compare with the files that are there")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the files are")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in RECIPES]
    if unknown:
        parser.error(f"no recipe for {', '.join(unknown)}")
    different = 0
    for name in options.names or RECIPES:
        content, file = model(name, train(name)), options.folder / f"{name}.onnx"
        if options.check:
            same = file.is_file() and file.read_bytes() == content
            different += not same
            print(f"{name}: {'reproduced byte for byte' if same else 'differs'}")
        else:
            file.write_bytes(content)
            print(f"{name}: {len(content)} bytes")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
