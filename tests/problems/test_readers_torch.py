"""torch modules: every supported layer and operation against the module itself, and what is refused."""

import operator
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from problems.errors import NetworkError, UnsupportedOperatorError
from problems.maps import Conv, Dense
from problems.network import Affine
from problems.readers import load
from problems.readers.agreement import replay

torch.manual_seed(0)
IMAGE = (2, 6, 5)
WEIGHT = torch.randn(3, 6)


def normalised(kind: type[nn.Module], channels: int) -> nn.Module:
    """Batch normalisation with statistics of some training."""
    layer = kind(channels)
    for tensor in (layer.weight, layer.bias, layer.running_mean):
        nn.init.normal_(tensor)
    nn.init.uniform_(layer.running_var, 0.1, 2.0)
    return layer.eval()


class Function(nn.Module):
    """A module around one expression."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "linear": (nn.Linear(6, 3), (6,)),
    "linear-no-bias": (nn.Linear(6, 3, bias=False), (6,)),
    "linear-last-axis": (nn.Linear(5, 3), IMAGE),
    "conv": (nn.Conv2d(2, 3, 3), IMAGE),
    "conv-all": (nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2, bias=False), IMAGE),
    "conv-same": (nn.Conv2d(2, 3, (4, 3), padding="same"), IMAGE),
    "conv-valid": (nn.Conv2d(2, 3, 3, padding="valid"), IMAGE),
    "conv-1d": (nn.Conv1d(2, 3, 3, stride=2, padding=1), (2, 9)),
    "batch-norm": (normalised(nn.BatchNorm2d, 2), IMAGE),
    "batch-norm-vector": (normalised(nn.BatchNorm1d, 6), (6,)),
    "batch-norm-plain": (nn.BatchNorm2d(2, affine=False).eval(), IMAGE),
    "relu": (nn.ReLU(), (6,)),
    "relu-in-place": (nn.Sequential(nn.Linear(6, 6), nn.ReLU(inplace=True), nn.Linear(6, 2)), (6,)),
    "relu6": (nn.ReLU6(), (6,)),
    "leaky-relu": (nn.LeakyReLU(0.1), (6,)),
    "hardtanh": (nn.Hardtanh(-0.3, 0.7), (6,)),
    "flatten": (nn.Flatten(), IMAGE),
    "flatten-some": (nn.Flatten(2, 3), IMAGE),
    "unflatten": (nn.Unflatten(1, (2, 3)), (6,)),
    "dropout": (nn.Dropout(0.5).eval(), (6,)),
    "identity": (nn.Identity(), (6,)),
    "max-pool": (nn.MaxPool2d((3, 2), stride=2, padding=1, ceil_mode=True), IMAGE),
    "average-pool": (nn.AvgPool2d(3, stride=2, padding=1), IMAGE),
    "average-pool-ceil": (nn.AvgPool2d(3, stride=2, padding=1, ceil_mode=True, count_include_pad=False), IMAGE),
    "adaptive": (nn.AdaptiveAvgPool2d(1), IMAGE),
}

FUNCTIONS: dict[str, tuple[Callable[[Tensor], Tensor], tuple[int, ...]]] = {
    "arithmetic": (lambda x: (3.0 - (x - 0.1307) / 0.3081 * 0.1 + 1) / -2, (6,)),
    "in-place": (lambda x: operator.imul(operator.iadd(x + 1, 2.5), 0.3), (6,)),
    "methods": (lambda x: x.add(1.0).mul(0.3).sub(0.1).div(7.0).neg(), (6,)),
    "negative": (lambda x: -x, (6,)),
    "residual": (lambda x: torch.relu(x) * 0.3 + x, (6,)),
    "concatenation": (lambda x: torch.cat([x, functional.relu(x), -x], dim=1), (6,)),
    "constant matrix": (lambda x: x @ WEIGHT.T, (6,)),
    "constant matrix on the left": (lambda x: torch.matmul(WEIGHT, x), IMAGE),
    "functional linear": (lambda x: functional.linear(x, WEIGHT), (6,)),
    "functional convolution": (lambda x: functional.conv2d(x, WEIGHT.reshape(9, 2, 1, 1), padding=1), IMAGE),
    "view": (lambda x: x.view(x.size(0), -1), IMAGE),
    "view of shape": (lambda x: x.reshape(x.shape[0], x.shape[1] * 3, -1), IMAGE),
    "half": (lambda x: x.view(x.size(0), x.size(1) // 2, 2), (6,)),
    "permutation": (lambda x: x.permute(0, 2, 3, 1).transpose(1, 2).flatten(1) * torch.arange(60.0), IMAGE),
    "squeeze": (lambda x: x.unsqueeze(1).squeeze(1).squeeze(1), (6,)),
    "item": (lambda x: x[:, 1:4] + x[:, 2:5], (6,)),
    "mean": (lambda x: x.mean(dim=(2, 3)), IMAGE),
    "max pool": (lambda x: functional.max_pool2d(x, 2), IMAGE),
    "leaky": (lambda x: functional.leaky_relu(x, 0.3), (6,)),
    "clamp": (lambda x: x.clamp(min=-0.5), (6,)),
    "maximum": (lambda x: torch.maximum(x, -x), (6,)),
    "minimum": (lambda x: torch.minimum(x, torch.relu(x)), (6,)),
    "abs": (lambda x: abs(x) + torch.abs(x), (6,)),
    "dropout": (lambda x: functional.dropout(x, 0.3, training=False), (6,)),
    "copies": (lambda x: x.contiguous().clone().detach(), (6,)),
}


def agrees(module: nn.Module, shape: tuple[int, ...]) -> None:
    network = load(module, input_shape=shape)
    x = torch.randn(4, *shape)
    with torch.no_grad():
        rows = [module(point[None].clone()).reshape(-1) for point in x]
    expected = torch.stack(rows).double().numpy()
    assert (network.input_shape, network.precision) == (shape, "float32")
    np.testing.assert_allclose(network.forward(x.reshape(4, -1).double().numpy()), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("name", LAYERS)
def test_layer(name: str) -> None:
    agrees(*LAYERS[name])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function(name: str) -> None:
    function, shape = FUNCTIONS[name]
    agrees(Function(function), shape)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = normalised(nn.BatchNorm2d, 4)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.last = nn.Linear(4 * 4 * 4, 10)

    def forward(self, x: Tensor) -> Tensor:
        hidden = functional.relu(self.norm(self.first(x)))
        hidden = functional.relu(hidden + self.second(hidden))
        return self.last(functional.max_pool2d(hidden, 2).flatten(1))


def test_residual_module() -> None:
    module = Residual().eval()
    agrees(module, (1, 8, 8))
    network = load(module, input_shape=(1, 8, 8))
    assert network.name == "Residual"
    assert len(network.roundings) == 1
    assert network.roundings[0].startswith("norm: scale / sqrt(variance + epsilon)")
    assert max(len(node.parents) for node in network.nodes if isinstance(node, Affine)) >= 2


def test_layers_stay_what_they_are() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 5), nn.ReLU(), nn.Dropout(), nn.Linear(5, 2)).eval()
    network = load(module, input_shape=(1, 8, 8))
    assert [type(node.maps[0]) for node in network.nodes if isinstance(node, Affine)] == [Conv, Dense, Dense]
    assert (network.neurons, network.input_shape, network.output_shape) == (77, (1, 8, 8), (2,))


@pytest.mark.parametrize(
    "module", [nn.Sequential(nn.Linear(6, 2)), nn.Sequential(nn.Flatten(), nn.Dropout().eval(), nn.Linear(6, 2)), nn.Linear(6, 2)]
)
def test_the_first_linear_layer_tells_the_input(module: nn.Module) -> None:
    assert load(module).input_shape == (6,)


def test_double_precision() -> None:
    module = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2)).double()
    network = load(module)
    x = torch.randn(3, 6, dtype=torch.float64)
    np.testing.assert_allclose(network.forward(x.numpy()), module(x).detach().numpy(), rtol=1e-13, atol=1e-14)
    assert network.precision == "float64"


def test_python_numbers_are_rounded_as_torch_does() -> None:
    network = load(Function(lambda x: x * 0.1), input_shape=(1,))
    assert network.forward(np.ones(1)) == float(np.float32(0.1))


def test_the_module_is_left_alone() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.ReLU(inplace=True)).train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    load(module)
    assert module.training
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


def test_replay_in_float32() -> None:
    module = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
    x = np.random.default_rng(0).standard_normal((3, 6)).astype(np.float32)
    logits = replay(load(module), x)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, module(torch.from_numpy(x)).detach().numpy(), rtol=1e-5, atol=1e-6)


def spoiled(value: float) -> nn.Module:
    module = nn.Linear(2, 2)
    with torch.no_grad():
        module.weight[0, 0] = value
    return module


class TwoInputs(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class Overwritten(nn.Module):
    """relu_ changes x itself, which is used again: 2 relu(x), and not x + relu(x)."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x, inplace=True) + x


@pytest.mark.parametrize(
    ("module", "problem"),
    [
        (nn.Sequential(nn.Linear(6, 6), nn.Dropout()), r"layer 1 \(Dropout\): is in training mode. Call module.eval\(\)"),
        (nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6)), r"layer 1 \(BatchNorm1d\): is in training mode"),
        (spoiled(float("nan")), "parameter weight: holds NaN or infinite"),
        (spoiled(float("inf")), "parameter weight: holds NaN or infinite"),
        (nn.Linear(6, 2).half(), "parameter weight: has type torch.float16"),
        (nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 2).double()), "mixes float32 and float64"),
        (nn.ReLU(), "does not tell the shape of its input. Load it first"),
        (nn.Conv2d(1, 1, 1), "does not tell the shape of its input. Load it first"),
        (
            nn.Sequential(nn.Linear(6, 6), nn.Linear(5, 2)),
            r"_1 \(Linear\): these arguments are not supported: shapes \(1, 6\) and \(5, 2\)",
        ),
    ],
)
def test_bad_modules(module: nn.Module, problem: str) -> None:
    with pytest.raises(NetworkError, match=problem):
        load(module)


@pytest.mark.parametrize(
    ("module", "problem"),
    [
        (Function(lambda x: x if x.sum() > 0 else -x), "cannot be traced"),
        (TwoInputs(), "has several inputs"),
        (Function(lambda x: (x, x)), "does not return one tensor"),
        (Overwritten(), "differs from torch by .* in place"),
    ],
)
def test_bad_structure(module: nn.Module, problem: str) -> None:
    with pytest.raises(NetworkError, match=problem):
        load(module, input_shape=(6,))


@pytest.mark.parametrize(
    ("module", "problem"),
    [
        (nn.Tanh(), r"\(Tanh\): Tanh is not supported. Supported layers: "),
        (Function(torch.sigmoid), "sigmoid is not supported"),
        (Function(lambda x: x.cumsum(1)), "cumsum is not supported"),
        (Function(lambda x: x * x), "multiplies two values.*by a constant"),
        (Function(lambda x: x @ x.transpose(0, 1)), "multiplies two values.*either side"),
        (Function(lambda x: 1 / x), "divides by a value that depends on the input"),
        (Function(lambda x: x // 2), "rounds a value"),
        (Function(lambda x: functional.dropout(x)), "training=self.training"),
        (Function(lambda x: torch.add(x, x, alpha=2)), "these arguments are not supported"),
        (Function(lambda x: torch.max(x)), "these arguments are not supported"),
        (nn.BatchNorm1d(6, track_running_stats=False).eval(), "normalises by the batch at hand"),
        (nn.Conv1d(6, 6, 3, padding=1, padding_mode="circular"), "pads in mode circular"),
        (nn.AvgPool2d(2, divisor_override=3), "divisor_override"),
        (nn.AdaptiveAvgPool2d(2), "output_size 2"),
        (nn.MaxPool2d(2, return_indices=True), "return_indices"),
        (nn.Conv2d(1, 1, 1), "an input of shape"),
    ],
)
def test_unsupported_operations(module: nn.Module, problem: str) -> None:
    with pytest.raises(UnsupportedOperatorError, match=problem):
        load(module, input_shape=(6,))


@pytest.mark.parametrize("shape", [(), (0,), (3, -1)])
def test_bad_input_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(NetworkError, match="is empty"):
        load(nn.Linear(3, 2), input_shape=shape)
