"""Train the stages of MAXIM on: blur is rendered on the training device as it is needed.

An earlier form of this made the shipped weights of the authors' (figures: `weights/README.md`):

    python tools/train_on_maxim.py photos cutouts videos --start authors --out runs/maxim

Each picture of a batch is a photograph, or a frame of a video, seen by a camera on a near-straight
path, before which up to two objects move: cut-outs, or blobs of other photographs. Light of 7 to 49
instants is averaged (gamma 2.2), with highlights beyond white in some; then come noise and JPEG. A
quarter are means of 5 to 13 frames of videos, of the calmer ones of twice as many.
"""

import argparse
import math
import time
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from b2v.color import to_encoded, to_linear
from b2v.data.datasets import speed_of
from b2v.data.scenes import warp
from b2v.media.images import read_photo
from b2v.media.video_reader import open_video
from b2v.models import MAXIM_STAGES, MODELS, Maxim
from b2v.weights.checkpoints import save_network

SIDE, CUTOUT = 640, 320
"""Sides in pixels to which photographs and objects are brought."""
SPEED = (0.25, 8.0)
"""Pixels a seventh of the exposure, drawn log-uniformly."""
CALM = 2.2
"""Pixels from frame to frame beyond which means of frames show the single ones."""
WEIGHTS = (1.0, 0.5, 1.0)
"""What the pictures after each stage count in the loss."""
VIDEO_FRAMES = 180
LUMINANCE = (
    "16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80"
    " 62 18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95"
    " 98 112 100 103 99"
)
"""Table K.1 of the JPEG standard; colors are divided by it, too."""


light_of, codes_of = (partial(f, curve="gamma2.2") for f in (to_linear, to_encoded))


class Scenes:
    """Draws batches of blurry and sharp pictures, [B, 3, S, S] each, code values in [0, 1]."""

    def __init__(self, folders: list[Path], size: int, device: torch.device, seed: int) -> None:
        files = sorted(path for folder in folders for path in folder.iterdir())
        pictures = [p for p in files if p.suffix in (".jpg", ".jpeg", ".png", ".webp")]
        photos = [read_photo(path) for path in pictures]
        plain = [_fitted(p.pixels) for p in photos if p.alpha is None]
        cut = [_centered(torch.cat([p.pixels, p.alpha])) for p in photos if p.alpha is not None]
        self.sizes = torch.tensor([p.shape[:0:-1] for p in plain], device=device).float()  # w, h
        self.photos = torch.stack([_mirrored(p) for p in plain]).mul(255).byte().to(device)
        self.cutouts = torch.stack(cut).mul(255).byte().to(device)
        self.videos = [_frames(p).to(device) for p in files if p.suffix in (".mp4", ".mov", ".mkv")]
        self.size, self.device, self.rng = size, device, np.random.default_rng(seed)
        axis = torch.arange(size, device=device) - (size - 1) / 2
        self.y, self.x = torch.meshgrid(axis, axis, indexing="ij")

    def batches(self, count: int, together: int = 4) -> Iterator[tuple[Tensor, Tensor]]:
        """Draw batches of `count` for ever."""
        while True:
            total = count * together
            filmed = int(self.rng.binomial(total, 0.25)) if self.videos else 0
            parts = [self.rendered(total - filmed), *([self.averaged(filmed)] if filmed else [])]
            blurry, sharp = (codes_of(torch.cat(part)) for part in zip(*parts, strict=True))
            still = self._of(self.rng.random(total) < 0.03).view(-1, 1, 1, 1)
            pairs = self._turned(torch.stack([self._worn(blurry.lerp(sharp, still)), sharp]))
            order = torch.from_numpy(self.rng.permutation(total)).to(self.device)
            mixed = pairs[:, order].mul(255).round().div(255)
            yield from zip(*(half.split(count) for half in mixed), strict=True)

    def rendered(self, count: int) -> tuple[Tensor, Tensor]:
        """Set photographs in motion: light of the exposure, and of its middle."""
        rng, size = self.rng, self.size
        scene, sides = self._photos(count)
        boost = self._of(np.where(rng.random(count) < 0.25, rng.uniform(0, 4, count), 0))
        scene = scene * (1 + boost.view(-1, 1, 1, 1) * ((scene - 0.75) * 4).clamp(min=0))
        step = self._of(np.exp(rng.uniform(np.log(0.95), np.log(1.5), count)))[:, None]
        room = (sides - size * step).clamp(min=0)
        centre = size * step / 2 + room * self._of(rng.uniform(0, 1, (count, 2)))
        path, speeds = self._paths(count, still=0.22)
        coarse = rng.uniform(-1, 1, (count, 1, 4, 4)) * rng.uniform(0, 0.6, (count, 1, 1, 1))
        depth = F.interpolate(self._of(coarse), (size, size), mode="bicubic", align_corners=True)
        near = 1 + depth[:, 0].clamp(-1, 1)
        objects = [self._objects(path, share) for share in (0.6, 0.3)]
        instants = min(49, max(15, math.ceil(speeds.max() * 7.5))) // 2 * 2 + 1
        instants = 7 if rng.random() < 0.2 else instants
        total, middle = torch.zeros_like(scene[..., :size, :size]), scene
        for time_ in (np.arange(instants) - instants // 2) * (7 / instants):
            points = self._seen(path, near, time_) * step[:, None, None] + centre[:, None, None]
            seen = _sampled(scene, (2 * points + 1) / SIDE - 1, "reflection")
            for which, picture, own, at, scale in objects:
                points = (self._seen(own, torch.ones_like(near[:1]), time_) - at) / scale
                cover = _sampled(picture, points, "zeros")
                seen[which] = seen[which] * (1 - cover[:, 3:]) + cover[:, :3]
            total += seen
            middle = seen if time_ == 0 else middle
        return total / instants, middle

    def averaged(self, count: int) -> tuple[Tensor, Tensor]:
        """Average frames of videos, in half of the size where there is room: light, as above."""
        rng, size = self.rng, self.size
        found: list[tuple[float, Tensor, Tensor]] = []
        for _ in range(2 * count):
            video = self.videos[rng.integers(len(self.videos))]
            frames = min(int(rng.choice([5, 7, 7, 9, 11, 13])), len(video) - 1 + len(video) % 2)
            side = min(size * (2 if rng.random() < 0.6 else 1), *video.shape[2:])
            start = int(rng.integers(len(video) - frames + 1))
            top, left = (int(rng.integers(n - side + 1)) for n in video.shape[2:])
            cut = video[start : start + frames, :, top : top + side, left : left + side]
            light = light_of(cut.float() / 255)
            if side != size:
                light = F.interpolate(light, (size, size), mode="bilinear", antialias=side > size)
            before, middle = codes_of(light[frames // 2 - 1 : frames // 2 + 1])
            speed = float(speed_of(255 * before[None].cpu(), 255 * middle[None].cpu()))
            found.append((max(0.0, speed - CALM) * 10 - min(speed, CALM), light.mean(0), light))
        found.sort(key=lambda one: one[0])
        chosen = found[:count]
        middles = [light[len(light) // 2] for _, _, light in chosen]
        return torch.stack([mean for _, mean, _ in chosen]), torch.stack(middles)

    def _photos(self, count: int) -> tuple[Tensor, Tensor]:
        """Pick photographs, a fifth of them frames of videos: light, and width and height."""
        which = torch.from_numpy(self.rng.integers(len(self.photos), size=count)).to(self.device)
        codes, sides = self.photos[which].float() / 255, self.sizes[which]
        for k in np.flatnonzero(self.rng.random(count) < 0.2) if self.videos else ():
            video = self.videos[self.rng.integers(len(self.videos))]
            frame = video[self.rng.integers(len(video))].float() / 255
            codes[k] = _mirrored(frame[:, :SIDE, :SIDE])
            sides[k] = sides.new_tensor([min(SIDE, frame.shape[2]), min(SIDE, frame.shape[1])])
        return light_of(codes), sides

    def _paths(self, count: int, still: float = 0.0) -> tuple[Tensor, np.ndarray]:
        """Draw poses' velocity and bend, [count, 2, 6], and speeds."""
        rng = self.rng
        speed = np.exp(rng.uniform(*np.log(SPEED), count))
        speed = np.where(rng.random(count) < still, speed * rng.uniform(0, 0.1, count), speed)
        angle = rng.uniform(0, 2 * np.pi, count)
        turn = rng.normal(0, 0.004, (count, 4)) * (rng.random((count, 1)) < 0.7)
        turn *= np.minimum(1, speed * 1.5)[:, None]
        velocity = np.column_stack([speed * np.cos(angle), speed * np.sin(angle), turn])
        bend = rng.uniform(-1, 1, (count, 6)) * 0.25 / 3.5
        bend *= np.column_stack([speed, speed, turn])
        return self._of(np.stack([velocity, bend], 1)), speed

    def _objects(
        self, camera: Tensor, share: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Put objects before a share of the pictures.

        Returns:
            Which pictures, the light of objects with alpha [M, 4, h, w], their paths, and their
            place and half their size in pixels.

        """
        rng, size = self.rng, self.size
        which = np.flatnonzero(rng.random(len(camera)) < share)
        which = which if len(which) else np.array([0])
        count, device = len(which), self.device
        picked = torch.from_numpy(rng.integers(len(self.cutouts), size=count)).to(device)
        picture = self.cutouts[picked].float() / 255
        blobs = torch.from_numpy(rng.random(count) < 0.65).to(device)
        if blobs.any():
            picture[blobs] = self._blobs(int(blobs.sum()))
        picture = torch.cat([light_of(picture[:, :3]) * picture[:, 3:], picture[:, 3:]], 1)
        own, _ = self._paths(count)
        places = torch.from_numpy(which).to(device)
        kind = self._of(rng.random(count)).view(-1, 1, 1)
        slow, fast = (
            self._of(rng.uniform(*r, count)).view(-1, 1, 1) for r in ((0, 0.25), (1.2, 2.2))
        )
        own = torch.where(
            kind < 0.3, own * slow, torch.where(kind > 0.8, camera[places] * fast, own)
        )
        half = self._of(np.exp(rng.uniform(np.log(0.25), np.log(1.1), count)) * size / 2)
        scale = half[:, None] * self._of(np.column_stack([rng.choice((-1, 1), count), [1] * count]))
        at = self._of(rng.uniform(-0.5, 0.5, (count, 2)) * size)
        return places, picture, own, at[:, None, None], scale[:, None, None]

    def _blobs(self, count: int) -> Tensor:
        """Cut blobs with smooth borders out of photographs, [count, 4, h, w]."""
        which = torch.from_numpy(self.rng.integers(len(self.photos), size=count)).to(self.device)
        texture = self.photos[which, :, 50 : 50 + CUTOUT, 50 : 50 + CUTOUT].float() / 255
        coarse = self._of(self.rng.normal(0, 1, (count, 1, 6, 6)))
        field = F.interpolate(coarse, (CUTOUT, CUTOUT), mode="bicubic", align_corners=True)
        axis = torch.linspace(-1, 1, CUTOUT, device=self.device)
        radius = torch.hypot(axis[:, None], axis)
        mask = ((1.07 + 0.5 * field - 1.6 * radius) * 20 + 0.5).clamp(0, 1) * (radius < 0.97)
        return torch.cat([texture, mask], 1)

    def _seen(self, path: Tensor, near: Tensor, time_: float) -> Tensor:
        """Where pixels look at a time, [B, S, S, 2], in pixels from the center."""
        pose = time_ * path[:, 0] + time_**2 * path[:, 1]
        return warp(pose, self.x, self.y, near, self.size)

    def _worn(self, blurry: Tensor) -> Tensor:
        """Add noise to some pictures, and compress some."""
        rng, count = self.rng, len(blurry)
        sigma = np.where(rng.random(count) < 0.6, rng.uniform(0, 0.012, count), 0)
        worn = blurry + self._of(sigma).view(-1, 1, 1, 1) * torch.randn_like(blurry)
        worn = worn.clamp(0, 1)
        chosen = torch.from_numpy(rng.random(count) < 0.15).to(self.device)
        if chosen.any():
            worn[chosen] = compressed(worn[chosen], float(rng.uniform(60, 95)))
        return worn

    def _turned(self, pairs: Tensor) -> Tensor:
        colors = self.rng.permutation(3) if self.rng.random() < 0.2 else np.arange(3)
        pairs = pairs[:, :, colors]
        for share, dim in ((0.5, -1), (0.3, -2)):
            pairs = pairs.flip(dim) if self.rng.random() < share else pairs
        return pairs.transpose(-1, -2) if self.rng.random() < 0.4 else pairs

    def _of(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.asarray(values, np.float32)).to(self.device)


def compressed(pictures: Tensor, quality: float) -> Tensor:
    """Do to [B, 3, H, W], sides multiples of 8, what JPEG of a quality from 50 on does."""
    new, (batch, _, height, width) = pictures.new_tensor, pictures.shape
    to = new([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]])
    steps = (new([float(v) for v in LUMINANCE.split()]).view(8, 8) * (2 - quality / 50)).clamp(
        min=1
    )
    k = torch.arange(8, device=pictures.device).float()
    cosines = torch.cos((2 * k + 1) * k[:, None] * (math.pi / 16)) / 2
    cosines[0] /= math.sqrt(2)
    level = new([128.0, 0.0, 0.0]).view(3, 1, 1)
    ycc = torch.einsum("ij,njhw->nihw", to, 255 * pictures) - level
    blocks = ycc.view(batch, 3, height // 8, 8, width // 8, 8).transpose(3, 4)
    waves = cosines @ blocks @ cosines.T
    blocks = cosines.T @ ((waves / steps).round() * steps) @ cosines
    ycc = blocks.transpose(3, 4).reshape(pictures.shape) + level
    return (torch.einsum("ij,njhw->nihw", to.inverse(), ycc) / 255).clamp(0, 1)


def _fitted(picture: Tensor) -> Tensor:
    """Bring the longer side of [C, H, W] down to `SIDE`."""
    factor = SIDE / max(picture.shape[1:])
    if factor >= 1:
        return picture
    size = [max(8, round(side * factor)) for side in picture.shape[1:]]
    return F.interpolate(picture[None], size, mode="bicubic", antialias=True)[0].clamp(0, 1)


def _mirrored(picture: Tensor) -> Tensor:
    """Fill a square of `SIDE` with [C, h, w] and its mirror images."""
    rows, columns = (torch.arange(SIDE, device=picture.device) % (2 * n) for n in picture.shape[1:])
    height, width = picture.shape[1:]
    rows, columns = (torch.minimum(i, 2 * n - 1 - i) for i, n in ((rows, height), (columns, width)))
    return picture[:, rows][:, :, columns]


def _centered(cutout: Tensor) -> Tensor:
    """Put a cut-out [4, h, w] into the middle of a clear square of `CUTOUT`."""
    factor = min(1.0, CUTOUT / max(cutout.shape[1:]))
    size = [max(8, round(side * factor)) for side in cutout.shape[1:]]
    small = F.interpolate(cutout[None], size, mode="bilinear", antialias=True)[0].clamp(0, 1)
    top, left = ((CUTOUT - side) // 2 for side in size)
    bottom, right = CUTOUT - size[0] - top, CUTOUT - size[1] - left
    return F.pad(small, (left, right, top, bottom))


def _frames(path: Path) -> Tensor:
    with open_video(path) as reader:
        frames = [(255 * frame.pixels).byte() for frame in islice(reader, VIDEO_FRAMES)]
    return torch.stack(frames)


def _sampled(pictures: Tensor, points: Tensor, padding: str) -> Tensor:
    return F.grid_sample(
        pictures, points, mode="bilinear", padding_mode=padding, align_corners=False
    )


def loss_of(restored: Tensor, sharp: Tensor) -> Tensor:
    """Logarithm of the squared error of each picture, and the distance of their spectra."""
    error = (restored - sharp).square().mean((1, 2, 3))
    spectra = (torch.fft.rfft2(x, norm="ortho") for x in (restored, sharp))
    first, second = spectra
    return (error + 3e-5).log().mean() + 2 * (first - second).abs().mean()


def main() -> None:
    """Read the command line, train, and save the stages as fp16."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, help="photographs, cut-outs, videos")
    parser.add_argument("--start", type=Path, required=True, help="folder of the stages")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--batch", type=int, default=5)
    parser.add_argument("--size", type=int, default=384, help="side of crops, as of the tiles")
    parser.add_argument("--rate", type=float, default=1e-4)
    asked = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    plans = MODELS["maxim-3"]
    net = Maxim(*(plans[role].build() for role in MAXIM_STAGES))
    for stage, role in zip(net.stages, MAXIM_STAGES, strict=True):
        weights = load_file(asked.start / f"maxim-{role}.safetensors")
        stage.load_state_dict({name: weight.float() for name, weight in weights.items()})
    net = net.to(device)
    master = [weight.detach().clone().requires_grad_() for weight in net.parameters()]
    low = net.to(torch.bfloat16 if device.type == "cuda" else torch.float32)
    adam = torch.optim.Adam(master, betas=(0.9, 0.99))
    scenes = Scenes(asked.folders, asked.size, device, seed=1)
    usual, began = None, time.monotonic()
    for step, (blurry, sharp) in enumerate(scenes.batches(asked.batch), start=1):
        done = (time.monotonic() - began) / (60 * asked.minutes)
        if done >= 1:
            break
        pictures = low.pictures(blurry.to(next(low.parameters()).dtype))
        losses = [w * loss_of(p.float(), sharp) for w, p in zip(WEIGHTS, pictures, strict=True)]
        sum(losses).backward()
        for weight, copy in zip(low.parameters(), master, strict=True):
            copy.grad, weight.grad = weight.grad.float(), None
        most = math.inf if usual is None else 2 * usual
        norm = float(torch.nn.utils.clip_grad_norm_(master, most))
        usual = norm if usual is None else 0.95 * usual + 0.05 * min(norm, 3 * usual)
        falling = (1 + math.cos(math.pi * (done - 0.03) / 0.97)) / 2
        adam.param_groups[0]["lr"] = asked.rate * min(done / 0.03, falling)
        adam.step()
        with torch.no_grad():
            torch._foreach_copy_(list(low.parameters()), master)
        if step % 10 == 1:
            said = " ".join(f"{loss.item():.3f}" for loss in losses)
            print(f"step {step}, {done:.0%}: {said}", flush=True)  # noqa: T201
    asked.out.mkdir(parents=True, exist_ok=True)
    values = iter(master)
    for stage, role in zip(net.stages, MAXIM_STAGES, strict=True):
        state = {name: next(values).detach().cpu() for name, _ in stage.named_parameters()}
        save_network(state, plans[role], role, asked.out / f"maxim-{role}.safetensors", half=True)


if __name__ == "__main__":
    main()
