"""Projections and steepest-ascent directions for balls in the 1, 2 and inf norms, cut by boxes.

Everything is batched over B rows of n coordinates. `room` (B, n) >= 0 is always the distance to the side of the box in the direction
considered (inf where there is none); centres lie inside the box. Results obey ball and box up to rounding; the exact
membership of the points that leave an attack is settled by `Region.clip` and `Region.contains`.
"""

import torch
from torch import Tensor


def onto_ball(points: Tensor, centers: Tensor, radius: Tensor, norm: float, lower: Tensor, upper: Tensor) -> Tensor:
    """The nearest points, in the 2 norm, of {u: ||u - center||_norm <= radius, lower <= u <= upper}.

    points, centers, lower, upper (B, n); radius (B,) >= 0. Exact up to rounding: each case is one monotone equation in the
    multiplier of the ball. Without box the norm-1 case is Duchi et al., ICML 2008; with it, Croce and Hein, ICML 2021.
    """
    if norm == float("inf"):
        reach = radius[:, None]
        return torch.maximum(torch.minimum(points, torch.minimum(centers + reach, upper)), torch.maximum(centers - reach, lower))
    shift = points - centers
    size = shift.abs()
    room = _room(shift, centers, lower, upper)
    kept = _shrunk_1(size, room, radius) if norm == 1 else _shrunk_2(size, room, radius)
    moved = centers + torch.copysign(kept, shift)
    return torch.maximum(torch.minimum(moved, upper), lower)


def onto_halfspace(normals: Tensor, gaps: Tensor, norm: float, room_down: Tensor, room_up: Tensor) -> tuple[Tensor, Tensor]:
    """The shortest steps d, in the given norm, with normals.d >= gaps and -room_down <= d <= room_up.

    normals, room_down, room_up (B, n), gaps (B,) -> (steps (B, n), feasible (B,)). Where the gap is out of reach the step goes
    as far as the box allows; where it is <= 0 the step is 0. Exact up to rounding: the one-dimensional equations of Croce and Hein,
    ICML 2020 (FAB), section 3.1.
    """
    gains = normals.abs()
    room = torch.where(normals > 0, room_up, room_down)
    room = torch.where(gains > 0, room, torch.zeros_like(room))
    gaps = gaps.clamp(min=0)
    if norm == 1:
        sizes = _fill_largest(gains, room, gaps)
    else:
        # Coordinate i moves by min(t * speed_i, room_i): the same t for all in the inf norm, in proportion to the gain in the 2 norm.
        speed = (gains > 0).to(gains.dtype) if norm == float("inf") else gains
        sizes = _grow(gains, speed, room, gaps)
    reached = (gains * sizes).sum(1)
    return torch.copysign(sizes, normals), reached >= gaps * (1 - 1e-9)


def steepest(gradients: Tensor, norm: float, room_down: Tensor, room_up: Tensor, share: float = 0.0) -> Tensor:
    """M_r(g) (THEORY section 3) over the coordinates that can still move: argmax {g.u : ||u||_norm <= 1}, (B, n).

    For norm 1 the maximiser is one coordinate; the unit is spread evenly over the `share` of coordinates with the largest
    gradients (at least one), which is what makes progress inside a box (Croce and Hein, ICML 2021).
    """
    room = torch.where(gradients > 0, room_up, room_down)
    free = torch.where(room > 0, gradients, torch.zeros_like(gradients))
    if norm == float("inf"):
        return free.sign()
    if norm == 2:
        return free / torch.linalg.vector_norm(free, dim=1, keepdim=True).clamp(min=torch.finfo(free.dtype).tiny)
    count = min(free.shape[1], max(1, round(share * free.shape[1])))
    top = free.abs().topk(count, dim=1).indices
    return torch.zeros_like(free).scatter_(1, top, free.gather(1, top).sign() / count)


def _room(shift: Tensor, centers: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    return torch.where(shift > 0, upper - centers, centers - lower).clamp(min=0)


def _shrunk_1(size: Tensor, room: Tensor, radius: Tensor) -> Tensor:
    """min(max(size - t, 0), room) with the least t >= 0 for which the sum is at most the radius."""
    capped = torch.minimum(size, room)
    outside = capped.sum(1) > radius
    if not outside.any():
        return capped
    # As t falls, coordinate i starts to count at t = size_i and stops growing at t = size_i - room_i: sort these 2n places.
    places = torch.cat([size, size - room], dim=1)
    slopes = torch.cat([torch.ones_like(size), -torch.ones_like(size)], dim=1)
    places, order = places.sort(dim=1, descending=True)
    slopes = slopes.gather(1, order).cumsum(1)
    lengths = torch.nn.functional.pad(places[:, :-1] - places[:, 1:], (1, 0))
    grown = torch.where(lengths.isfinite(), torch.nn.functional.pad(slopes[:, :-1], (1, 0)) * lengths, float("inf")).cumsum(1)
    last = (grown < radius[:, None]).sum(1).clamp(min=1)[:, None] - 1
    left = radius[:, None] - grown.gather(1, last)
    threshold = places.gather(1, last) - left / slopes.gather(1, last).clamp(min=1)
    shrunk = torch.minimum((size - threshold.clamp(min=0)).clamp(min=0), room)
    return torch.where(outside[:, None], shrunk, capped)


def _shrunk_2(size: Tensor, room: Tensor, radius: Tensor) -> Tensor:
    """min(t * size, room) with the largest t <= 1 for which the 2 norm is at most the radius.

    Starting with no coordinate at its room, t only grows from one pass to the next, and the norm stays within the radius.
    """
    squares, budget = size.square(), radius.square()
    factor = torch.zeros_like(radius)
    for _ in range(size.shape[1] + 1):
        full = factor[:, None] * size >= room
        free = torch.where(full, 0.0, squares).sum(1)
        used = torch.where(full, room.square(), 0.0).sum(1)
        grown = torch.where(free > 0, ((budget - used).clamp(min=0) / free.clamp(min=torch.finfo(size.dtype).tiny)).sqrt(), 1.0)
        grown = torch.maximum(grown.clamp(max=1.0), factor)
        if bool((grown <= factor).all()):
            break
        factor = grown
    return torch.minimum(factor[:, None] * size, room)


def _grow(gains: Tensor, speed: Tensor, room: Tensor, gaps: Tensor) -> Tensor:
    """min(t * speed, room) with the least t for which gains.(it) reaches the gap: Newton from the left on a concave function."""
    tiny = torch.finfo(gains.dtype).tiny
    time = torch.zeros_like(gaps)
    sizes = torch.zeros_like(gains)
    for _ in range(gains.shape[1] + 1):
        missing = gaps - (gains * sizes).sum(1)
        rate = torch.where(sizes < room, gains * speed, 0.0).sum(1)
        longer = torch.where((missing > 0) & (rate > 0), time + missing / rate.clamp(min=tiny), time)
        if bool((longer <= time * (1 + 1e-15)).all()):
            break
        time = longer
        sizes = torch.minimum(time[:, None] * speed, room)
    return sizes


def _fill_largest(gains: Tensor, room: Tensor, gaps: Tensor) -> Tensor:
    """The coordinates of largest gain moved by their whole room, the last one in part, until the gap is reached."""
    gains, order = gains.sort(dim=1, descending=True)
    room = room.gather(1, order)
    whole = torch.where(gains > 0, gains * room, 0.0)
    before = torch.nn.functional.pad(whole.cumsum(1)[:, :-1], (1, 0))
    left = (gaps[:, None] - before).clamp(min=0)
    sizes = torch.where(gains > 0, torch.minimum(left / gains.clamp(min=torch.finfo(gains.dtype).tiny), room), 0.0)
    return torch.zeros_like(sizes).scatter_(1, order, sizes)
