"""What attacks attack: a classifier to search on, and a judge of what was found.

A `Network` is judged by proof. A torch module that cannot be read as one is judged by its own evaluation, which every report says.
"""

from abc import ABC, abstractmethod
from math import prod
from typing import Any

import numpy as np
import torch

from problems import readers
from problems.errors import InputError, NetworkError
from problems.network import Network
from problems.rounding import round_down
from verifier.attacks.module import as_module, operations, search_precision
from verifier.attacks.pgd import LARGEST_BATCH, STEP_OPERATIONS
from verifier.attacks.witness import exact_margin, float_margins, proven_margins

Array = np.ndarray

# Up to this many multiplications per forward pass a margin is settled in rational arithmetic (a second or so) where intervals do not tell.
EXACT_OPERATIONS = 10_000_000
# Points judged together: intervals keep every layer of all of them.
JUDGED_TOGETHER = 256


class Classifier(ABC):
    """A function x (B, n) -> logits (B, K). `module` searches in `precision` on the device, `operations` is what one input costs it.

    `sharp` is the most precise module at hand, for the last steps. `judged_by` says in words what `margins` stands on.
    """

    name: str
    input_size: int
    output_size: int
    module: torch.nn.Module
    precision: torch.dtype
    sharp: torch.nn.Module
    sharp_precision: torch.dtype
    device: str
    operations: int
    judged_by: str

    @abstractmethod
    def logits(self, points: Array) -> Array:
        """Logits (N, K) in float64 at points (N, n), with the rounding errors of floating point."""

    @abstractmethod
    def margins(self, points: Array, labels: Array) -> Array:
        """What counts as max over k != label of z_k - z_label at points (N, n), labels (N,): (N,), as `judged_by` says."""

    @property
    def batch(self) -> int:
        """Inputs per batch for which one step ends well within a tenth of a second."""
        kind = self.device.split(":")[0]
        return int(max(1, min(LARGEST_BATCH[kind], STEP_OPERATIONS[kind] / max(1, self.operations))))

    def tensor(self, values: Array) -> torch.Tensor:
        """values (...) as numbers of the search, on its device."""
        return torch.from_numpy(np.array(values, dtype=np.float64)).to(device=self.device, dtype=self.precision)

    def indices(self, values: Array) -> torch.Tensor:
        """Whole numbers (B,) on the device."""
        return torch.from_numpy(np.array(values, dtype=np.int64)).to(self.device)


class ProvedClassifier(Classifier):
    """A Network. Margins are lower bounds, tight to rounding, of those of the stored weights as real numbers."""

    judged_by = "proof: the stored weights as real numbers"

    def __init__(self, network: Network, device: str) -> None:
        self.network, self.device = network, device
        self.name, self.input_size, self.output_size = network.name, network.input_size, network.output_size
        self.operations, self.precision = operations(network), search_precision(network)
        self.module = as_module(network, device, self.precision)
        self.sharp, self.sharp_precision = as_module(network, device), torch.float64

    def logits(self, points: Array) -> Array:
        step = max(JUDGED_TOGETHER, self.batch)
        return np.concatenate([self.network.forward(points[begin : begin + step]) for begin in range(0, len(points), step)])

    def margins(self, points: Array, labels: Array) -> Array:
        proved = np.empty(len(points))
        for begin in range(0, len(points), JUDGED_TOGETHER):
            part = slice(begin, begin + JUDGED_TOGETHER)
            proved[part], upper = proven_margins(self.network, points[part], labels[part])
            if self.operations > EXACT_OPERATIONS:
                continue
            for row in begin + np.flatnonzero((proved[part] < 0) & (upper >= 0)):  # the intervals do not tell
                proved[row] = round_down(exact_margin(self.network, points[row], int(labels[row])))
        return proved


class EvaluatedClassifier(Classifier):
    """A torch module, in its own precision. Margins are those of its own evaluation of the point, rounded to that precision."""

    def __init__(self, module: torch.nn.Module, input_size: int, input_shape: tuple[int, ...] | None, device: str) -> None:
        numbers = [value for value in (*module.parameters(), *module.buffers()) if value.is_floating_point()]
        self.precision = numbers[0].dtype if numbers else torch.float64
        self.name, self.device, self.input_size = type(module).__name__, device, input_size
        self.module = self.sharp = as_module(module, device, self.precision, input_shape)
        self.sharp_precision = self.precision
        self.judged_by = f"the module's own evaluation in {str(self.precision).removeprefix('torch.')} on {device}; nothing is proved"
        try:
            self.operations, self.output_size = _trial(self.module, self.tensor(np.zeros((2, input_size))))
        except InputError:
            raise
        except Exception as error:  # whatever a module of others may raise
            raise NetworkError(
                self.name, f"fails on inputs of size {input_size}: {error}.", "Give input_shape, the shape of one input."
            ) from error

    def logits(self, points: Array) -> Array:
        parts = []
        with torch.no_grad():
            for begin in range(0, len(points), self.batch):
                parts.append(self.module(self.tensor(points[begin : begin + self.batch])).double().cpu().numpy())
        return np.concatenate(parts)

    def margins(self, points: Array, labels: Array) -> Array:
        found = float_margins(self.logits(points), labels)
        return np.where(np.isnan(found), -np.inf, found)


def classifier(network: Any, device: str, input_size: int, input_shape: tuple[int, ...] | None = None) -> Classifier:
    """The classifier that `network` stands for: a Network, a path, a bundled name or a torch module.

    input_shape: the shape of one input, for modules that do not take flat ones. Raises NetworkError.
    """
    if not isinstance(network, torch.nn.Module):
        return ProvedClassifier(readers.load(network), device)
    try:
        return ProvedClassifier(readers.load(network, input_shape=input_shape), device)
    except NetworkError:
        return EvaluatedClassifier(network, input_size, input_shape, device)


def _trial(module: torch.nn.Module, inputs: torch.Tensor) -> tuple[int, int]:
    """(multiplications of one forward pass in layers with weights, number of outputs), by trying two inputs."""
    counts: list[int] = []

    def count(layer: torch.nn.Module, _: Any, output: Any) -> None:
        weight = getattr(layer, "weight", None)
        if isinstance(weight, torch.Tensor) and isinstance(output, torch.Tensor) and weight.dim() >= 2:
            counts.append(output.numel() // len(inputs) * prod(weight.shape[1:]))

    hooks = [layer.register_forward_hook(count) for layer in module.modules()]
    try:
        with torch.no_grad():
            outputs = module(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    name = type(getattr(module, "inner", module)).__name__
    if outputs.dim() != 2 or len(outputs) != len(inputs):
        raise NetworkError(name, f"gives outputs of shape {tuple(outputs.shape)} for {len(inputs)} inputs, not one row of logits each.")
    return sum(counts) + inputs.shape[1], outputs.shape[1]
