"""Losses that attacks ascend, each a function of (logits (B, K), labels (B,), targets (B,) or None) -> (B,).

"ce": cross-entropy; with targets the logarithm of the target's probability. "dlr": the difference of logits ratio (Croce and Hein, ICML
2020), margin / (z_(1) - z_(3)) with z_(1) >= z_(2) >= ... the sorted logits; towards a target t it is
(z_t - z_y) / (z_(1) - (z_(3) + z_(4)) / 2). The ratio is >= 0 on errors alone. "redlr": the DLR of samples still classified rightly, 0 for
the others, so that no budget is spent on what is wrong already (Bai et al., NeurIPS 2023). "margin": z_k - z_y alone.

The ratio needs a third logit, with a target a fourth: with three classes the targeted form divides by z_(1) - z_(3), with two classes
there is no ratio and the margin itself is ascended. The ratio is scale-invariant and jumps where the first and third logit meet, so
no certificate can speak about it (THEORY section 1): it is a loss for attacks only.
"""

from collections.abc import Callable
from math import inf

import torch
from torch import Tensor
from torch.nn import functional

Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def margins(logits: Tensor, labels: Tensor, targets: Tensor | None = None) -> Tensor:
    """z_target - z_y, or without targets max over k != y of z_k - z_y."""
    true = logits.gather(1, labels[:, None])[:, 0]
    if targets is not None:
        return logits.gather(1, targets[:, None])[:, 0] - true
    return logits.scatter(1, labels[:, None], -inf).max(1).values - true


def cross_entropy(logits: Tensor, labels: Tensor, targets: Tensor | None = None) -> Tensor:
    """-log of the probability of the label; with targets, the logarithm of the probability of the target."""
    if targets is not None:
        return -functional.cross_entropy(logits, targets, reduction="none")
    return functional.cross_entropy(logits, labels, reduction="none")


def dlr(logits: Tensor, labels: Tensor, targets: Tensor | None = None) -> Tensor:
    """The difference of logits ratio."""
    classes = logits.shape[1]
    if classes < 3:
        return margins(logits, labels, targets)
    top = logits.topk(min(4, classes), dim=1).values
    low = (top[:, 2] + top[:, 3]) / 2 if targets is not None and classes > 3 else top[:, 2]
    return margins(logits, labels, targets) / (top[:, 0] - low).clamp(min=torch.finfo(logits.dtype).tiny ** 0.5)


def redlr(logits: Tensor, labels: Tensor, targets: Tensor | None = None) -> Tensor:
    """min(DLR, 0): only what is still classified rightly is pushed."""
    return dlr(logits, labels, targets).clamp(max=0)


LOSSES: dict[str, Loss] = {"ce": cross_entropy, "dlr": dlr, "margin": margins, "redlr": redlr}


def described(name: str, classes: int, *, targeted: bool) -> str:
    """The loss in words, with what it falls back on for few classes."""
    if name not in ("dlr", "redlr") or classes > 3:
        return name
    if classes < 3:
        return f"{name} (two classes: the margin, for want of a third logit)"
    return f"{name} (three classes: targets without a fourth logit)" if targeted else name
