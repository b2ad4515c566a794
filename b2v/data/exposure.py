"""The open shutter: blur is the light of many instants averaged.

`expose` is eq. 1 of Jin et al. (CVPR 2018) and of Kim et al. (ICCV 2017) with the gamma
curve g where physics has it: light is averaged, code values are what comes out.

A coded exposure gives each instant a color-dependent PSF of its own: a mask of phase rings in the
pupil and a focus that moves during the exposure spread red, green and blue light differently at
every instant, so the blur tells which way things went (Elmalem, Giryes, Marom, Optica 2020). The
default `Optics` are those of a study that joins the method with the cascade (Berman 2021), whose
seven PSFs they give to 0.01 % of their energy.

A set of PSFs is [N, 3, k, k], one for each instant and color, k odd, each color of the sum 1. Light
is spread where it is light: call this on linear light.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from b2v.color import Curve, to_encoded, to_linear
from b2v.errors import UsageError


@dataclass(frozen=True)
class Shutter:
    """Opens once every `period` frames of a sharp video, for `tau` of them (Kim et al., eq. 1).

    `tau` is odd, for the exposure to have a center frame, and its sharp frame is exactly that
    one, `tau // 2` after the first; the paper's formula, ceil(tau / 2), is one later when frames
    are counted from 0 as it does. `tau / period` is the duty cycle.
    """

    tau: int
    period: int

    def __post_init__(self) -> None:
        if self.tau < 1:
            raise UsageError(f"tau is {self.tau}; at least one frame must be exposed")
        if self.tau % 2 == 0:
            raise UsageError(f"tau is {self.tau}; only an odd number of frames has a center frame")
        if self.period < self.tau:
            raise UsageError(
                f"period is {self.period}, tau {self.tau}; the next exposure cannot begin before"
                " this one has ended"
            )

    def length(self, windows: int) -> int:
        """Count the frames that so many exposures take, from the first of them to the last."""
        return (windows - 1) * self.period + self.tau


def instants(frames: int, sub_frames: int) -> Tensor:
    """List the times at which to look at a scene, in frame intervals from the middle frame.

    Each frame's segment of the exposure is cut into `sub_frames` (odd) equal parts, whose
    centers are the instants; the center of segment k is the time of frame k itself.

    Returns [frames, sub_frames], evenly spaced from first to last.
    """
    if sub_frames % 2 == 0:
        raise ValueError(f"sub_frames must be odd for a frame to have a center, got {sub_frames}")
    count = frames * sub_frames
    return ((torch.arange(count) - (count - 1) / 2) / sub_frames).view(frames, sub_frames)


def odd(least: float, most: int) -> int:
    """Give the smallest odd number from `least` on, up to `most`: a middle one is among so many."""
    needed = math.ceil(least)
    return min(needed + (needed + 1) % 2, most)


def expose(light_lin: Tensor, curve: Curve = "gamma2.2") -> Tensor:
    """Average instants [N, C, H, W] of linear light to one encoded picture [C, H, W]."""
    return to_encoded(light_lin.mean(0), curve)


def expose_video(
    frames: Iterable[Tensor], shutter: Shutter, curve: Curve = "gamma2.2"
) -> Iterator[tuple[Tensor, Tensor]]:
    """Make a blurry video of a sharp one, holding two frames at a time.

    Args:
        frames: [3, H, W] each, encoded, in [0, 1].
        shutter: when light falls in.
        curve: transfer curve of the code values.

    Yields:
        A blurry frame and the sharp one at its center, [3, H, W] each; a last exposure that is
        not whole is left out.

    """
    light_lin, sharp = torch.zeros(()), torch.zeros(())
    for number, frame in enumerate(frames):
        place = number % shutter.period
        if place >= shutter.tau:
            continue
        light_lin = to_linear(frame, curve) + (light_lin if place else 0)
        if place == shutter.tau // 2:
            sharp = frame
        if place == shutter.tau - 1:
            yield to_encoded(light_lin / shutter.tau, curve), sharp


Aperture = Literal["standard", "coded"]
"""Whether the lens is open as usual, or has the phase mask and focus sweep of `Optics`."""
FRAME_STEPS = 9
"""Steps of the focus in the time of one frame where nothing else is asked for."""


@dataclass(frozen=True, kw_only=True)
class Optics:
    """The lens: a clear pupil of radius 1 with rings of phase, swept through focus.

    Phases are in radians for the shortest wavelength; others are turned by less, as their
    wavelength is longer.
    """

    sweep: tuple[float, float] = (0.0, 8.0)
    """Defocus at the rim of the pupil at the first and at the last instant."""
    rings: tuple[tuple[float, float, float], ...] = ((0.551, 0.8, 6.53), (0.8, 1.0, 13.24))
    """Inner radius, outer radius and phase of each ring of the mask, from within."""
    wavelengths: tuple[float, float, float] = (600.0, 535.0, 455.0)
    """Of red, green and blue, in nanometres."""
    cutoff: float = 0.249
    """Coherent cut-off of the shortest wavelength in cycles a pixel; above 0.25 it aliases."""
    size: int = 27
    """Side k of the PSFs in pixels."""

    def __post_init__(self) -> None:
        edges = [0.0, *(edge for ring in self.rings for edge in ring[:2]), 1.0]
        if edges != sorted(edges):
            raise ValueError(f"rings {self.rings} overlap or leave the pupil of radius 1")
        if self.size % 2 == 0 or not 0 < self.cutoff <= 0.25:
            raise ValueError(
                f"size must be odd and cutoff in (0, 0.25], got {self.size}, {self.cutoff}"
            )


@lru_cache(maxsize=16)
def optical_psfs(optics: Optics, count: int) -> Tensor:
    """Work out the PSFs of `count` instants, evenly spaced from one end of the sweep to the other.

    PSF = |FT{circ(ρ) exp j (λ_B / λ)(ψ ρ² + φ(ρ))}|²; the pupil is round, so its Fourier
    transform is one integral over the radius.

    Args:
        optics: the lens.
        count: instants; a single one has the defocus at the middle of the sweep.

    Returns:
        [count, 3, k, k] float32.

    """
    ends = optics.sweep if count > 1 else 2 * (sum(optics.sweep) / 2,)
    psi = torch.linspace(*ends, count, dtype=torch.float64)
    shortest = min(optics.wavelengths)
    colors = [_color(optics, psi, shortest / wavelength) for wavelength in optics.wavelengths]
    psfs = torch.stack(colors, 1)
    return (psfs / psfs.sum((-2, -1), keepdim=True)).float()


def _color(optics: Optics, psi: Tensor, turn: float) -> Tensor:
    """PSFs [N, k, k] at defocus `psi` [N] of the color whose phases are `turn` times as large."""
    # Integrals over the radius: Gauss-Legendre between the edges of rings, where phase is smooth.
    zones, edge = [], 0.0
    for inner, outer, phase in (*optics.rings, (1.0, 1.0, 0.0)):
        zones += [(edge, inner, 0.0), (inner, outer, phase)]
        edge = outer
    nodes, weights = map(torch.from_numpy, np.polynomial.legendre.leggauss(32 + optics.size))
    parts = [
        (low + (high - low) * (nodes + 1) / 2, weights * (high - low) / 2, phase + 0 * nodes)
        for low, high, phase in zones
        if high > low
    ]
    rho, weight, mask = (torch.cat(column) for column in zip(*parts, strict=True))
    axis = torch.arange(optics.size, dtype=torch.float64) - optics.size // 2
    radii = (axis[:, None] ** 2 + axis**2).sqrt().flatten()
    cutoff = optics.cutoff * turn
    waves = torch.special.bessel_j0(2 * math.pi * cutoff * radii[:, None] * rho)
    phases = turn * (psi[:, None] * rho**2 + mask)
    field = torch.polar(2 * math.pi * rho * weight, phases) @ waves.T.to(torch.complex128)
    intensity = field.abs().square() * (cutoff**2 / math.pi)  # all pixels of the plane sum to 1
    return intensity.view(-1, optics.size, optics.size)


def by_frame(psfs: Tensor, frames: int) -> Tensor:
    """Average the PSFs [frames * steps, 3, k, k] of each frame, which stands still so long."""
    return psfs.view(frames, -1, *psfs.shape[1:]).mean(1)


def through_psfs(light: Tensor, psfs: Tensor) -> Tensor:
    """Spread each instant by its PSF and average them; the border goes on as its last pixel.

    Args:
        light: [N, 3, H, W], linear light, or code values where a study did so.
        psfs: [N, 3, k, k].

    Returns:
        [3, H, W] in what `light` is in.

    """
    if len(light) != len(psfs):
        raise ValueError(f"{len(light)} instants cannot go through {len(psfs)} PSFs")
    height, width = light.shape[-2:]
    size = psfs.shape[-1]
    sides = [height + size - 1, width + size - 1]
    total = torch.zeros(3, sides[0], sides[1] // 2 + 1, dtype=torch.complex64)
    for instant, psf in zip(light, psfs, strict=True):
        wide = F.pad(instant[None], (size // 2,) * 4, mode="replicate")[0]
        total += torch.fft.rfft2(wide) * torch.fft.rfft2(psf, sides)
    spread = torch.fft.irfft2(total / len(light), sides)
    return spread[:, size - 1 :, size - 1 :]  # the rest went round the edge
