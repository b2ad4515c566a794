"""Frames of video to tensors and back: planes of code values and [3, H, W] in [0, 1].

FFmpeg's scaler converts, with exact rounding and with the colours where the format has them
(between the rows, on even columns; JPEG in the middle of four pixels). Planes of G, B, R are
three times as fast as interleaved RGB.
"""

from itertools import pairwise

import av
import torch
from av.filter import Graph
from av.video.plane import VideoPlane
from torch import Tensor

from b2v.media.hdr import ToneMap
from b2v.media.info import BT709, MATRICES, Colours, Turn

GBR = (1, 2, 0)
"""Channel of RGB that each plane of FFmpeg's planar RGB holds."""
DEEP_WHITE = 255 * 256
"""White in FFmpeg's 16-bit RGB where it comes from or goes to YCbCr; measured, and tested."""
CENTRED = ("mjpeg", "mjpegb", "jpegls", "mpeg1video")
"""Codecs that put a colour value in the middle of the four pixels it is for."""
EXACT = "flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"


class ToPixels:
    """Converts the frames of one video to [3, H, W] float32: upright RGB, sRGB-encoded, in [0, 1].

    Frames of another size than the first are scaled to it. What is transparent becomes white;
    HDR is tone-mapped.
    """

    def __init__(self, first: av.VideoFrame, turn: Turn, colours: Colours, codec: str) -> None:
        self.size = first.width, first.height
        self.turn, self.colours, self.centred = turn, colours, codec in CENTRED
        self.tone_map = ToneMap(colours) if colours.hdr else None
        self.layout: tuple[str, int, int] | None = None
        self.graph: Graph | None = None
        self.scaled = 0
        """How many frames were of another size."""

    def __call__(self, frame: av.VideoFrame) -> Tensor:
        """Convert one frame."""
        self.scaled += (frame.width, frame.height) != self.size
        planar, white = self._planar(frame)
        pixels = _read_planes(planar, white, self.turn)
        if len(pixels) == 4:
            pixels = 1 - (1 - pixels[:3]) * pixels[3:]
        return pixels if self.tone_map is None else self.tone_map(pixels)

    def _planar(self, frame: av.VideoFrame) -> tuple[av.VideoFrame, float]:
        """Convert to planes of G, B, R (and alpha); return them and their code of white."""
        stored = frame.format
        bits = max(part.bits for part in stored.components)
        alpha = stored.has_palette or any(part.is_alpha for part in stored.components)
        if stored.name.startswith("gbrp") and not stored.is_big_endian and not alpha:
            target, white = stored.name, 2.0**bits - 1  # as it is, unless the size differs
        elif bits > 8:
            target = "gbrap16le" if alpha else "gbrp16le"
            white = 2.0**16 - 1 if stored.is_rgb else DEEP_WHITE
        else:
            target, white = "gbrap" if alpha else "gbrp", 255
        if (frame.width, frame.height) == self.size and target == stored.name:
            return frame, white
        layout = (stored.name, frame.width, frame.height)
        if self.graph is None or self.layout != layout:
            self.graph, self.layout = self._build(*layout, target), layout
        frame.pts = frame.pts or 0
        self.graph.vpush(frame)
        return self.graph.vpull(), white

    def _build(self, stored: str, width: int, height: int, target: str) -> Graph:
        """Make the filter that brings frames of this layout to planes of `self.size`."""
        steps = f"{self.size[0]}:{self.size[1]}:{EXACT}"
        if not av.VideoFormat(stored).is_rgb:
            whole = "pc" if self.colours.full_range else "tv"
            steps += f":in_color_matrix={MATRICES[self.colours.matrix]}:in_range={whole}"
            steps += _colour_places("in", stored, centred=self.centred)
        return _graph(f"video_size={width}x{height}:pix_fmt={stored}", steps, target)


class FromPixels:
    """Converts tensors [3, H, W] in [0, 1] to frames of `pix_fmt`, in TV range."""

    def __init__(self, width: int, height: int, pix_fmt: str, matrix: int = BT709) -> None:
        self.width, self.height, self.pix_fmt = width, height, pix_fmt
        bits = max(part.bits for part in av.VideoFormat(pix_fmt).components)
        self.planar, self.white = ("gbrp", 255) if bits == 8 else ("gbrp16le", DEEP_WHITE)
        steps = f"{EXACT}:out_color_matrix={MATRICES[matrix]}:out_range=tv"
        steps += _colour_places("out", pix_fmt)
        self.graph = _graph(f"video_size={width}x{height}:pix_fmt={self.planar}", steps, pix_fmt)

    def __call__(self, pixels: Tensor) -> av.VideoFrame:
        """Convert one picture, which may lie on any device."""
        codes = pixels.detach().float().clamp(0, 1).mul_(self.white).round_().cpu()
        frame = av.VideoFrame(self.width, self.height, self.planar)
        for plane, channel in zip(frame.planes, GBR, strict=True):
            _plane(plane, self.width, self.height, deep=self.white > 255).copy_(codes[channel])
        frame.pts = 0
        self.graph.vpush(frame)
        return self.graph.vpull()


def _colour_places(side: str, pix_fmt: str, *, centred: bool = False) -> str:
    """Say where colour values lie, in 1/256 of a pixel, on the axes where there are fewer.

    Said for an axis where each pixel has its own, it would shift them.
    """
    layout = av.VideoFormat(pix_fmt)
    places = f":{side}_h_chr_pos={128 if centred else 0}" if layout.chroma_width(8) < 8 else ""
    return places + (f":{side}_v_chr_pos=128" if layout.chroma_height(8) < 8 else "")


def _graph(source: str, steps: str, target: str) -> Graph:
    graph = Graph()
    chain = [graph.add("buffer", f"{source}:time_base=1/1000"), graph.add("scale", steps)]
    chain += [graph.add("format", target), graph.add("buffersink")]
    for left, right in pairwise(chain):
        left.link_to(right)
    graph.configure()
    return graph


def _read_planes(frame: av.VideoFrame, white: float, turn: Turn) -> Tensor:
    """Copy the planes G, B, R (and alpha), upright, to [3 or 4, H, W] float32, `white` at 1."""
    height, width = frame.height, frame.width
    pixels = torch.empty(len(frame.planes), *((width, height) if turn.swap else (height, width)))
    flips = [axis for axis, yes in enumerate((turn.flip_rows, turn.flip_columns)) if yes]
    for plane, channel in zip(frame.planes, (*GBR, 3), strict=False):
        codes = _plane(plane, width, height, deep=white > 255)
        codes = codes.T if turn.swap else codes
        pixels[channel] = codes.flip(flips) if flips else codes
    pixels.div_(white)
    return pixels.clamp_(max=1) if white == DEEP_WHITE else pixels


def _plane(plane: VideoPlane, width: int, height: int, *, deep: bool) -> Tensor:
    """See a plane as [H, W]; its rows are padded in memory."""
    codes = torch.frombuffer(plane, dtype=torch.uint16 if deep else torch.uint8)
    stride = plane.line_size // codes.element_size()
    return codes[: height * stride].view(height, stride)[:, :width]
