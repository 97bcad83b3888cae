"""Auto-PGD's schedule and losses, and attacks on torch modules that the engine cannot read."""

from math import inf

import numpy as np
import pytest
import torch

import verifier
from problems.data import Dataset
from problems.errors import DataError, NetworkError
from problems.regions.ball import Ball
from problems.regions.box import Box
from tests.verifier.attack_cases import NORMS, tensor
from verifier.attacks.apgd import checkpoints, climb
from verifier.attacks.attack import METHODS
from verifier.attacks.losses import LOSSES, cross_entropy, described, dlr, margins, redlr
from verifier.attacks.pgd import Reach

LOGITS = tensor([[3.0, 1.0, -1.0, -3.0], [1.0, 3.0, 0.5, 0.0]])


def test_checkpoints_are_those_of_the_paper() -> None:
    assert checkpoints(100) == [0, 22, 41, 57, 70, 80, 87, 93, 99]
    assert checkpoints(10)[:4] == [0, 3, 5, 6]
    assert checkpoints(0) == [0]


def test_losses_by_hand() -> None:
    labels = torch.zeros(2, dtype=torch.long)
    assert margins(LOGITS, labels).tolist() == [-2.0, 2.0]
    assert dlr(LOGITS, labels).tolist() == pytest.approx([-2 / 4, 2 / 2.5])
    assert redlr(LOGITS, labels).tolist() == pytest.approx([-2 / 4, 0])
    targets = torch.tensor([2, 2])
    assert dlr(LOGITS, labels, targets).tolist() == pytest.approx([-4 / 5, -0.5 / 2.75])
    expected = np.log(np.exp(LOGITS.numpy()).sum(axis=1)) - LOGITS[:, 0].numpy()
    assert cross_entropy(LOGITS, labels).numpy() == pytest.approx(expected)
    assert cross_entropy(LOGITS, labels, targets).numpy() == pytest.approx(LOGITS[:, 2].numpy() - LOGITS[:, 0].numpy() - expected)


def test_the_ratio_falls_back_for_few_classes() -> None:
    labels, targets = torch.zeros(2, dtype=torch.long), torch.ones(2, dtype=torch.long)
    assert dlr(LOGITS[:, :3], labels, targets).tolist() == pytest.approx([-2 / 4, 2 / 2.5])
    assert dlr(LOGITS[:, :2], labels).tolist() == [-2.0, 2.0]
    assert described("dlr", 4, targeted=True) == "dlr"
    assert "fourth" in described("dlr", 3, targeted=True)
    assert "margin" in described("redlr", 2, targeted=False)
    # The ratio does not see scale, which is what it was made for.
    assert dlr(LOGITS * 1e6, labels).tolist() == pytest.approx(dlr(LOGITS, labels).tolist())


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("loss", ["ce", "dlr", "margin"])
def test_climbing_a_linear_classifier_ends_at_its_maximum(norm: float, loss: str) -> None:
    rng = np.random.default_rng(1)
    weights = tensor(rng.normal(size=(2, 10)))
    module = torch.nn.Linear(10, 2, dtype=torch.float64)
    module.weight.data, module.bias.data = weights, tensor([30.0, 0])  # no step reaches an error
    centers = tensor(rng.normal(size=(6, 10)))
    radius = torch.full((6,), 0.5, dtype=torch.float64)
    lower, upper = centers - 0.2, centers + 0.3
    reach = Reach.balls(centers, radius, norm, lower, upper)
    labels = torch.zeros(6, dtype=torch.long)
    generator = torch.Generator().manual_seed(0)
    points, found = climb(module, reach.random(generator), reach, LOSSES[loss], labels, None, steps=100, generator=generator)
    slope = (weights[1] - weights[0]).numpy()
    best = [
        Ball(c.numpy(), 0.5, norm, Box(low.numpy(), high.numpy())).support(slope[None, None])[0][0, 0]
        for c, low, high in zip(centers, lower, upper, strict=True)
    ]
    reached = points.numpy() @ slope
    assert found.detach().numpy() == pytest.approx(reached - 30)
    assert reached == pytest.approx(np.array(best), abs=0.01)
    assert (reached <= np.array(best) + 1e-9).all()


class Odd(torch.nn.Module):
    """A network of two images with a smooth activation and a division: nothing the engine reads."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Conv2d(1, 4, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(4)
        self.last = torch.nn.Linear(4 * 64, 10)
        self.drop = torch.nn.Dropout(0.5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = torch.nn.functional.gelu(self.norm(self.first(images))).flatten(1)
        return self.last(self.drop(hidden) / (1 + hidden.square().sum(1, keepdim=True)))


class Sum(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum()


@pytest.mark.parametrize("method", METHODS)
def test_any_torch_module_can_be_attacked(method: str) -> None:
    module = Odd()
    x = np.random.default_rng(0).uniform(size=(16, 64)).astype(np.float32).astype(np.float64)
    module.eval()
    with torch.no_grad():
        y = module(torch.tensor(x.reshape(-1, 1, 8, 8), dtype=torch.float32)).argmax(1).numpy()
    module.train()  # attacked in evaluation mode all the same, and left as it was
    data = Dataset(x, y, Box(np.zeros(64), np.ones(64)), image_shape=(1, 8, 8))
    report = verifier.attack(module, data, method=method, norm=2, epsilon=2.5, restarts=1, steps=20)
    assert module.training
    assert "evaluation in float32" in report.judged_by
    assert 0 <= report.accuracy < 1
    module.eval()
    for row, point in zip(report.rows, report.points, strict=True):
        assert data.domain is not None
        assert data.domain.contains(point)
        with torch.no_grad():
            logits = module(torch.tensor(point.reshape(1, 1, 8, 8), dtype=torch.float32))[0]
        own = max(float(z) for k, z in enumerate(logits) if k != row.label) - float(logits[row.label])
        assert row.margin == pytest.approx(own, abs=1e-5)
        assert row.success == (row.margin >= 0)
    if report.mixture is not None:
        assert report.mixture.within(2.5)


def test_a_readable_module_is_judged_by_proof() -> None:
    torch.manual_seed(1)
    module = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU(), torch.nn.Linear(6, 3))
    x = np.random.default_rng(0).normal(size=(5, 4))
    report = verifier.attack(module, Dataset(x, np.zeros(5, dtype=int)), method="wda++", norm=inf, epsilon=0.1)
    assert report.judged_by.startswith("proof")


def test_modules_that_do_not_fit_are_named() -> None:
    data = Dataset(np.zeros((2, 9)), np.zeros(2, dtype=int))
    with pytest.raises(NetworkError, match="input_shape"):
        verifier.attack(Odd(), data, method="apgd", norm=2, epsilon=0.1)
    data = Dataset(np.zeros((2, 64)), np.array([0, 10]), image_shape=(1, 8, 8))
    with pytest.raises(DataError, match="label 10"):
        verifier.attack(Odd(), data, method="wda++", norm=2, epsilon=0.1)
    with pytest.raises(NetworkError, match="fails on inputs"):
        verifier.attack(Sum(), data, method="apgd", norm=2, epsilon=0.1)
