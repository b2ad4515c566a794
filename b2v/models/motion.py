"""The motion that explains a blur, once a sharp picture stands beside it: a non-blind cost volume.

The sharp middle frame, blurred as light along each of 16 directions and many lengths, is compared
with the photo; what explains a place best is its motion, straight and even over the exposure.
Costs are averaged within what has one color, so that objects keep motions of their own. A blur
does not tell its sign: neighbors and what is alike take one together, and all of the picture where
the camera moved ahead. Discs stand among the candidates, too: what they explain better than any
motion is missed focus.

Pictures are [3, H, W], RGB, sRGB-encoded in [0, 1]; motion is held by cells of 8 x 8 pixels.
"""

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from b2v.color import GREY, to_linear
from b2v.motion import camera_motion, motion_at

CELL = 8
"""Pixels a side of what has one motion."""
ANGLES = 16
"""Directions, over half a turn."""
HALF_LENGTHS = (0, 0.75, 1.5, 2.25, 3, 4, 5, 6.25, 7.5, 9, 10.5, 12.5, 15, 18, 21.5, 26, 31)
"""Half lengths of motion in pixels, from the middle of the exposure to its end."""
DARK = 0.02
"""Light below which code values are not told apart so finely."""
AROUND = 4
"""Cells to each side over which costs are averaged."""
COLOR = 0.1
"""Difference in code value, in [0, 1], at which two cells count for each other by half."""
NEAR = 2
"""Cells to each side over which cells persuade each other."""
UNSURE = 0.02
"""What a cell counts that explains nothing."""
FAMILIAR = 1.0
"""Log of costs by which a motion has to be better that is not the camera's. On held-out scenes this
gives frames 1, 2, 6 and 7 of photographs in motion 0.2 dB, those of videos 0.05."""
RADIAL, MORE = 0.94, 0.05
"""Mean squared cosine of paths to rays from one point from which the camera moves ahead, and by how
much it has to be more than that to one direction. Windows of a drone and of a walk come to 0.96 to
0.99, and by 0.1 to 0.3 more; those of other videos to 0.92 at most, or to no more than for a shift.
"""
POINTS, AHEAD = 9, 0.5
"""Points a side where the camera may be heading, and how far out they lie, as a part of half the
longer side: who moves ahead looks there. Beyond that, some scenes that only shift seem to expand.
"""
DISTANCES = (1, 2, 4, 8, 16)
"""Of paths that are bound to each other, in squares of four cells."""
RADII = (1.5, 2.5, 3.5, 5.0, 7.0)
"""Radii in pixels of the discs of missed focus."""
SURE = 2.0
"""How much better than none a motion explains a place that says no more of the camera."""
BLURRED, SEEN = 0.7, 0.15
"""Log of costs from which a cell counts as blurred, and the share of such cells from which a
picture may be called out of focus. Discs of three to six pixels left 0.19 at least where there is
texture; of pictures in motion some with much sky and fog have less, and their few cells do not
tell."""
FOCUS = -0.1
"""Log from which a picture is out of focus, the median of its blurred cells: by how much a disc
explains them better than motion, and the picture is less steep across that motion than along it. A
network that knows motion alone makes discs look like motion, but along slopes. Of 43 pictures of
motion, really blurred ones among them, all but one come to -0.3 at most; of 24 of discs of three to
six pixels, 17 to more than this.
"""
SMALL = (2.0, 3.5)
"""Pixels of motion up to which it is none, and from which it is some. A network that makes a sharp
picture crisper leaves up to 2; of 12 photographs in motion and 20 windows of videos cells of less
than 2.5 gain nothing by being moved."""
EVIDENT = (0.2, 0.6)
"""Log of costs up to which motion does not explain a place, and from which it does."""
CERTAIN = (0.5, 2.0)
"""Log of costs up to which motion may as well be another, and from which it is that motion."""
CHANGED = (0.009, 0.016)
"""Change (rms) of a picture by a network that knows what is sharp, up to which it was, and from
which it was not: 15 photographs that were come to 0.009 at most."""
MANY, CLEAR = (0.05, 0.12), (2.1, 2.6)
"""Share of the cells of a picture that move, and log of costs around the clearest place, up to
which nothing moved in it, and from which something did. Ten crops of sharp photographs come to 0.07
and 2.2; of 32 blurry ones each comes to more of either but those in which next to nothing moves."""
MOVES = 3.0
"""Pixels of motion that count for `MANY`."""
FLAT = 3
"""Cells a side over which the mean difference is taken off: shading is no motion."""
NOISE = 3e-6
"""Mean squared difference that no picture is free of."""


@dataclass(frozen=True)
class Motion:
    """How the parts of a picture moved.

    Attributes:
        path: [2, h, w] of cells, x and y in pixels from the middle of the exposure to its end.
        explained: [h, w], log of the cost without motion over the least with any: how much
            better some motion explains a place than none.
        defocused: [h, w], log of the least cost of any motion over that of the best disc: how
            much better missed focus explains a place than motion.
        across: [h, w], log of how much steeper the photo is across the path than along it, squared.

    """

    path: Tensor
    explained: Tensor
    defocused: Tensor
    across: Tensor

    @property
    def stack(self) -> Tensor:
        """All of it, [5, h, w]."""
        return torch.cat(
            [self.path, *(x[None] for x in (self.explained, self.defocused, self.across))]
        )

    @property
    def lengths(self) -> Tensor:
        """Length of the motion over the whole exposure in pixels, [h, w]."""
        return 2 * self.path.norm(dim=0)

    @property
    def trust(self) -> Tensor:
        """Share of a correction that is to be made, [h, w] in [0, 1]."""
        return self.explained.clamp(0, 1)

    @property
    def moved(self) -> Tensor:
        """How sure it is that anything in the picture moved, a number in [0, 1].

        It takes many cells that moved, or one place that did beyond doubt.
        """
        clearest = _box((self.explained * _ramp(self.lengths, *SMALL))[None], 5).amax()
        many = ((self.explained > 1) & (self.lengths > MOVES)).float().mean()
        return torch.maximum(_ramp(many, *MANY), _ramp(clearest, *CLEAR))

    @property
    def blurs(self) -> Tensor:
        """Share in which motion is taken to have blurred a place, or what is around it, [h, w]."""
        return self.moved * blurring(self.explained, self.lengths)

    @property
    def doubt(self) -> Tensor:
        """How little motion explains a place, [h, w] in [0, 1]."""
        return 1 - _ramp(self.explained, *CERTAIN)

    def without_doubt(self) -> "Motion":
        """Leave out what is no motion but what a network made of a sharp place."""
        return self.times(self.moved * _ramp(self.lengths, *SMALL))

    def evident(self, changed: float) -> "Motion":
        """Leave out all motion where nothing tells that anything moved.

        Args:
            changed: root of the mean square of what a network changed that leaves sharp pictures
                as they are, in code values of [0, 1].

        """
        return self.times(torch.maximum(self.moved, _ramp(torch.tensor(changed), *CHANGED)))

    def times(self, share: Tensor | float) -> "Motion":
        """Shorten the paths to a share of them, [h, w] or one for all."""
        return replace(self, path=self.path * share)

    def at(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Path [2, H, W] and trust [1, H, W] of the pixels of a picture."""
        cells = torch.cat([self.path, self.trust[None]])
        pixels = F.interpolate(cells[None], scale_factor=float(CELL), mode="bilinear")
        rows, columns = pixels.shape[2:]  # a few less, where those of half the size were rounded
        missing = (0, max(0, width - columns), 0, max(0, height - rows))
        pixels = F.pad(pixels, missing, "replicate")[0, :, :height, :width]
        return pixels[:2], pixels[2:]

    def where(self, chosen: Tensor, other: "Motion") -> "Motion":
        """Take another motion in the cells that are chosen, [h, w]."""
        return _motion_of(torch.where(chosen, other.stack, self.stack))

    def is_defocus(self) -> bool:
        """Tell whether missed focus rather than motion made blurry what is, as far as can be told.

        Best asked before light is taken back along the motion, which only motion explains.
        """
        blurred = self.explained + self.defocused.clamp(min=0) > BLURRED
        if blurred.float().mean() <= SEEN:
            return False
        return bool((self.defocused - self.across)[blurred].median() > FOCUS)

    def scaled(self, factor: float) -> "Motion":
        """Give the motion of the picture at `factor` times the size, by cells as large."""
        h, w = (max(1, round(factor * side)) for side in self.explained.shape)
        stack = self.times(factor).stack[None]
        return _motion_of(F.interpolate(stack, (h, w), mode="bilinear", antialias=factor < 1)[0])


def _motion_of(stack: Tensor) -> Motion:
    return Motion(stack[:2], *stack[2:])


def blurring(explained: Tensor, lengths: Tensor) -> Tensor:
    """Share in which motion is taken to have blurred a place, or what is around it, [h, w].

    It has to explain the place, a log of costs, and to be some pixels long.
    """
    here = _ramp(explained, *EVIDENT) * _ramp(lengths, *SMALL)
    return _box(F.max_pool2d(here[None], 5, 1, 2), 5)[0]


def cost_volume(blurry: Tensor, sharp: Tensor) -> Tensor:
    """Mean squared difference of each cell for each motion: [ANGLES, lengths, h, w].

    Differences are in code values, linearized at the photo, less their mean around.
    """
    seen, light, slope = signals(blurry, sharp)
    still = mismatch(light, seen, slope)
    costs = torch.empty(ANGLES, len(HALF_LENGTHS), *still.shape, device=still.device)
    costs[:, 0] = still
    for a in range(ANGLES):
        for k, smeared in enumerate(smears(light, math.pi * a / ANGLES, HALF_LENGTHS[1:]), 1):
            costs[a, k] = mismatch(smeared, seen, slope)
    return costs


def smears(light: Tensor, angle: float, halves: Sequence[float]) -> Iterator[Tensor]:
    """Smear light [H, W] evenly along a direction, by each of ever greater half lengths.

    It is added up from one column, or row, to the next: one sum serves all lengths.
    """
    across, down = math.cos(angle), math.sin(angle)
    steep = abs(down) > abs(across)
    major, slant = (down, across / down) if steep else (across, down / across)
    reach = math.ceil(halves[-1] * abs(major)) + 2
    around = F.pad(light[None, None], (reach,) * 4, "replicate")[0, 0]

    def both(step: int) -> Tensor:
        total = torch.zeros_like(light)
        for at in (step, -step):
            below = math.floor(at * slant)
            share = at * slant - below
            for minor, weight in ((below, 1 - share), (below + 1, share)):
                if weight > 1e-6:
                    top, left = (at, minor) if steep else (minor, at)
                    total.add_(_window(around, reach, top, left, light.shape), alpha=weight)
        return total

    step, total, here, after = 0, torch.zeros_like(light), 2 * light, both(1)
    for half in halves:
        end = half * abs(major)
        while step + 1 <= end:  # the trapezoidal rule
            total.add_(here, alpha=0.5).add_(after, alpha=0.5)
            step, here, after = step + 1, after, both(step + 2)
        part = end - step
        integral = total.add(here, alpha=part - part * part / 2).add_(after, alpha=part * part / 2)
        yield integral.div_(2 * end)


def _window(around: Tensor, reach: int, top: int, left: int, shape: tuple[int, ...]) -> Tensor:
    top, left = reach + top, reach + left
    return around[top : top + shape[0], left : left + shape[1]]


def mismatch(light: Tensor, seen: Tensor, slope: Tensor) -> Tensor:
    """Mean square of a difference in cells, less its mean around: [h, w]."""
    difference = (light - seen).mul_(slope)[None]
    mean = F.avg_pool2d(difference, CELL)[0]
    square = F.avg_pool2d(difference.square_(), CELL)[0]
    local = _box(mean[None], FLAT)[0]
    return (square - 2 * mean * local + local.square()).clamp(min=0)


def _ramp(values: Tensor, low: float, high: float) -> Tensor:
    return ((values - low) / (high - low)).clamp(0, 1)


def _box(cells: Tensor, side: int) -> Tensor:
    return F.avg_pool2d(cells[None], side, 1, side // 2, count_include_pad=False)[0]


def disc_costs(blurry: Tensor, sharp: Tensor) -> Tensor:
    """Compare as `cost_volume` does with what a lens out of focus makes of it: [discs, h, w]."""
    seen, light, slope = signals(blurry, sharp)
    costs = []
    for radius in RADII:
        reach = math.ceil(radius)
        at = torch.arange(-reach, reach + 1, device=light.device).float()
        disc = (radius + 0.5 - (at[:, None].square() + at.square()).sqrt()).clamp(0, 1)
        around = F.pad(light[None, None], (reach,) * 4, "replicate")
        smeared = F.conv2d(around, (disc / disc.sum())[None, None])[0, 0]
        costs.append(mismatch(smeared, seen, slope))
    return torch.stack(costs)


def estimate(blurry: Tensor, sharp: Tensor) -> Motion:
    """Find the motion that explains best how `sharp` became `blurry`, both [3, H, W] in [0, 1].

    Sides are `CELL` pixels at least; what is left of a last cell has the motion of its neighbor.
    """
    blurry, sharp = whole_cells(blurry), whole_cells(sharp)
    volume = torch.cat([cost_volume(blurry, sharp).flatten(0, 1), disc_costs(blurry, sharp)])
    logs = (within_colors(volume, sharp) + NOISE).log()
    logs, discs = logs[: -len(RADII)], logs[-len(RADII) :]
    paths = _candidates().to(logs)
    least, best = logs.min(0)
    explained = logs[0] - least
    weights, (height, width) = explained.clamp(0, SURE) * (paths[best].norm(dim=-1) > 0), best.shape
    camera = camera_motion(paths[best].movedim(2, 0), weights)
    likely = logs + _strangeness(paths, motion_at(camera, height, width, 0, height))
    own = paths[likely.argmin(0)].movedim(2, 0)
    weights = explained.clamp(0, SURE) * (own.norm(dim=0) > 0)
    ahead = expansion(own, weights)
    if ahead is None:
        own = signed(own, weights + UNSURE, sharp)
    else:
        own = torch.where((own * ahead).sum(0) < 0, -own, own)
    path = persuaded(own, explained, sharp)
    return Motion(path, explained, least - discs.amin(0), steepness(blurry, path))


def steepness(picture: Tensor, paths: Tensor) -> Tensor:
    """Compare how steep a picture [3, H, W] is across paths [2, h, w] and along them.

    Motion blurs along its path alone, missed focus in all directions. Returns the log of the ratio
    of mean squared slopes, [h, w].
    """
    soft = F.avg_pool2d(picture.mean(0)[None], 3, 1, 1)[0]
    dx, dy = (F.pad(soft.diff(n=1, dim=dim), pad) for dim, pad in ((1, (0, 1)), (0, (0, 0, 0, 1))))
    xx, xy, yy = _box(F.avg_pool2d(torch.stack([dx * dx, dx * dy, dy * dy]), CELL), FLAT)
    x, y = paths / paths.norm(dim=0).clamp(min=1e-6)
    along = x * x * xx + 2 * x * y * xy + y * y * yy
    return ((xx + yy - along + NOISE) / (along + NOISE)).log()


def _candidates() -> Tensor:
    """List the paths of a cost volume, [ANGLES * lengths, 2]."""
    angles = torch.arange(ANGLES)[:, None] * (math.pi / ANGLES)
    halves = torch.tensor(HALF_LENGTHS)
    return torch.stack([angles.cos() * halves, angles.sin() * halves], -1).flatten(0, 1)


def _strangeness(paths: Tensor, camera: Tensor) -> Tensor:
    """Tell how little paths [N, 2] are like the camera's [2, h, w]: a log of costs, [N, h, w].

    It decides where many motions explain a place alike; where one explains it far better than
    others, that is taken: objects have motions of their own.
    """
    distances = [(sign * paths[:, :, None, None] - camera).norm(dim=1) for sign in (1, -1)]
    apart = torch.minimum(*distances) / (1 + camera.norm(dim=0))
    return FAMILIAR * apart.clamp_(max=1)


def expansion(paths: Tensor, weights: Tensor) -> Tensor | None:
    """Find the rays that paths follow when the camera moves ahead, or back.

    However far away things are, they then move away from the point where it is heading, the focus
    of expansion; so that parts of the picture have one sign that do not touch.

    Args:
        paths: [2, h, w], each right up to its sign.
        weights: [h, w], not negative.

    Returns:
        Unit vectors [2, h, w], or None where one direction explains the paths about as well.

    """
    height, width = weights.shape
    unit = paths / paths.norm(dim=0).clamp(min=1e-6)
    total = weights.sum().clamp(min=1e-6)
    shift = torch.linalg.eigvalsh(torch.einsum("ihw,jhw,hw->ij", unit, unit, weights) / total)[-1]
    side = max(height, width) / 2
    y, x = (torch.arange(n, device=paths.device) - (n - 1) / 2 for n in (height, width))
    places = torch.stack(torch.meshgrid(x, y, indexing="xy"))
    axis = torch.linspace(-AHEAD * side, AHEAD * side, POINTS, device=paths.device)
    rays = places - torch.cartesian_prod(axis, axis)[:, :, None, None]  # [N, 2, h, w]
    rays = rays / rays.norm(dim=1, keepdim=True).clamp(min=1.0)
    fits = torch.einsum("nihw,ihw->nhw", rays, unit).square().mul(weights).sum((1, 2)) / total
    best = fits.argmax()
    return rays[best] if fits[best] > max(RADIAL, float(shift) + MORE) else None


def persuaded(path: Tensor, explained: Tensor, picture: Tensor) -> Tensor:
    """Let cells that explain much persuade those of their color nearby that explain little."""
    weights = (explained.clamp(0, SURE) + UNSURE)[None]
    total = within_colors(torch.cat([path * weights, weights]), picture, NEAR)
    return total[:2] / total[2:]


def signed(path: Tensor, weights: Tensor, picture: Tensor) -> Tensor:
    """Turn paths [2, h, w], each right up to its sign, so that those go together that are alike.

    Regions grow by the strongest bond first (greedy additive edge contraction, Keuper et al.,
    Efficient Decomposition of Image and Mesh Graphs by Lifted Multicuts, ICCV 2015), each time
    turned so that all bonds between both agree. Bonds reach further than to the next cell, so that
    what lies behind an object, or beyond what has no texture, is one.

    Args:
        path: of cells.
        weights: [h, w], how sure each is.
        picture: [3, H, W] of whole cells; what is of one color belongs together.

    """
    doubled = _doubled(path) * weights
    pooled = _pooled(torch.cat([doubled, weights[None], path.norm(dim=0)[None] * weights]))
    sure, length = pooled[2], pooled[3] / pooled[2]
    coarse = _doubled(pooled[:2], 0.5)
    coarse = coarse / coarse.norm(dim=0).clamp(min=1e-6) * length
    color = _pooled(F.avg_pool2d(picture[None], CELL)[0])
    bonds: list[dict[int, float]] = [{} for _ in range(sure.numel())]
    number = torch.arange(sure.numel()).view(sure.shape)
    for distance in DISTANCES:
        for dim in (0, 1):
            if distance < sure.shape[dim]:
                strength = _bonds(coarse, sure, color, distance, dim)
                ends = (number.narrow(dim, k, strength.shape[dim]) for k in (0, distance))
                pairs = (x.flatten().tolist() for x in (*ends, strength))
                for i, j, bond in zip(*pairs, strict=True):
                    bonds[i][j] = bonds[j][i] = bond
    coarse = coarse * torch.tensor(_contracted(bonds)).view(sure.shape).to(path)
    around = F.interpolate(coarse[None], scale_factor=2.0, mode="bilinear")[0]
    around = around[:, : path.shape[1], : path.shape[2]]
    return torch.where((path * around).sum(0) < 0, -path, path)


def _doubled(path: Tensor, times: float = 2.0) -> Tensor:
    """Multiply the angle of vectors [2, h, w]: at twice the angle a sign is no matter."""
    length, angle = path.norm(dim=0), torch.atan2(path[1], path[0]) * times
    return torch.stack([length * angle.cos(), length * angle.sin()])


def _pooled(cells: Tensor) -> Tensor:
    """Average cells [C, h, w] in squares of four; those at the border in what is there."""
    return F.avg_pool2d(cells[None], 2, ceil_mode=True, count_include_pad=False)[0]


def _bonds(path: Tensor, sure: Tensor, color: Tensor, distance: int, dim: int) -> Tensor:
    """Tell how firmly paths at a distance go together, less than 0 where one has to be turned."""
    cells = torch.cat([path, sure[None], color])
    one, other = (cells.narrow(dim + 1, k, sure.shape[dim] - distance) for k in (0, distance))
    near = 1 / (1 + (one[3:] - other[3:]).square().sum(0) / COLOR**2)
    lengths = one[:2].norm(dim=0), other[:2].norm(dim=0)
    product = lengths[0] * lengths[1]
    cosine = (one[:2] * other[:2]).sum(0) / product.clamp(min=1e-6)
    alike = product / (1 + torch.maximum(*lengths).square())
    return cosine * cosine.abs() * alike * near * torch.minimum(one[2], other[2]) / distance


def _contracted(bonds: list[dict[int, float]]) -> list[float]:
    """Choose signs of cells by their bonds to others."""
    heap = [(-abs(bond), i, j) for i, near in enumerate(bonds) for j, bond in near.items() if i < j]
    heapq.heapify(heap)
    members = [[cell] for cell in range(len(bonds))]
    signs = [1.0] * len(bonds)
    while heap:
        strength, i, j = heapq.heappop(heap)
        if abs(bonds[i].get(j, math.inf)) != -strength:
            continue  # one of both has been joined to another, or the bond is not what it was
        if len(bonds[i]) < len(bonds[j]):
            i, j = j, i
        turn = -1.0 if bonds[i].pop(j) < 0 else 1.0
        for cell in members[j]:
            signs[cell] *= turn
        members[i] += members[j]
        for near, bond in bonds[j].items():
            if near != i:
                del bonds[near][j]
                bonds[i][near] = bonds[near][i] = bonds[i].get(near, 0.0) + turn * bond
                heapq.heappush(heap, (-abs(bonds[i][near]), i, near))
        bonds[j] = {}
    return signs


def whole_cells(picture: Tensor) -> Tensor:
    """Repeat the border of a picture up to whole cells."""
    height, width = picture.shape[1:]
    return F.pad(picture[None], (0, -width % CELL, 0, -height % CELL), "replicate")[0].float()


def signals(blurry: Tensor, sharp: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Light of both pictures, [H, W] each, and the code values that a unit of light is worth."""
    gray = blurry.new_tensor(GREY)
    seen = torch.einsum("chw,c->hw", to_linear(blurry, "gamma2.2"), gray)
    light = torch.einsum("chw,c->hw", to_linear(sharp, "gamma2.2"), gray)
    return seen, light, (seen + DARK) ** (1 / 2.2 - 1) / 2.2


def within_colors(costs: Tensor, picture: Tensor, around: int = AROUND) -> Tensor:
    """Average costs [..., h, w] over the cells around that have the color of a cell."""
    color = F.avg_pool2d(picture[None], CELL)[0]
    h, w = color.shape[1:]
    flat = costs.flatten(0, -3)
    pad = (around,) * 4
    colors, costs_around = (F.pad(x[None], pad, "replicate")[0] for x in (color, flat))
    total, weights = torch.zeros_like(flat), torch.zeros_like(color[0])
    for dy in range(2 * around + 1):
        for dx in range(2 * around + 1):
            apart = (colors[:, dy : dy + h, dx : dx + w] - color).square().sum(0)
            near = math.exp(-((dy - around) ** 2 + (dx - around) ** 2) / (around**2))
            weight = near / (1 + apart / COLOR**2)
            total.addcmul_(costs_around[:, dy : dy + h, dx : dx + w], weight)
            weights += weight
    return (total / weights).view_as(costs)
