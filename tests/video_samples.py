"""Small videos for tests, made with PyAV and FFmpeg."""

import hashlib
import subprocess
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from imageio_ffmpeg import get_ffmpeg_exe

WIDTH, HEIGHT, FRAMES = 64, 48, 12
TICK = Fraction(1, 600)
EVEN = [20 * number for number in range(FRAMES)]
UNEVEN = [0, 7, 40, 60, 61, 99, 140, 141, 160, 200, 201, 290]
"""Times in ticks of a video of even rate, 30 a second, and of one without."""


def drawing(number, height=HEIGHT, width=WIDTH):
    """Smooth picture [3, H, W]: bright on the left, red below, and bluer with each number."""
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    blue = torch.full_like(x, 0.2 + 0.05 * (number % 12))
    return torch.stack([0.25 + 0.5 * y, 0.75 - 0.5 * x, blue])


LUMA = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}


def stored(pixels, pix_fmt, matrix=1, full=False, centered=False):
    """The frame that stores `pixels`, worked out by hand; color lies on even columns."""
    layout = av.VideoFormat(pix_fmt)
    bits = layout.components[0].bits
    if layout.is_rgb:
        codes = (pixels * (2**bits - 1)).round().numpy().astype(np.uint8 if bits == 8 else "<u2")
        packed = "rgb24" if bits == 8 else pix_fmt
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(codes.transpose(1, 2, 0)), packed)
        return frame.reformat(format=pix_fmt)
    (red, blue), (r, g, b) = LUMA[matrix], pixels.double().numpy()
    luma = red * r + (1 - red - blue) * g + blue * b
    planes = [luma, (b - luma) / 2 / (1 - blue), (r - luma) / 2 / (1 - red)]
    frame = av.VideoFrame(pixels.shape[2], pixels.shape[1], pix_fmt)
    for number, (plane, values) in enumerate(zip(frame.planes, planes, strict=True)):
        if plane.width < values.shape[1]:
            wide = np.pad(values, ((0, 0), (1, 1)), "edge")
            values = (wide[:, :-2:2] + 2 * wide[:, 1:-1:2] + wide[:, 2::2]) / 4
            values = (wide[:, 1:-1:2] + wide[:, 2::2]) / 2 if centered else values
        if plane.height < values.shape[0]:
            values = (values[::2] + values[1::2]) / 2
        scale = 2 ** (bits - 8)
        low, span = (128, 224) if number else (16, 219)
        if full:
            codes = values * (2**bits - 1) + (2 ** (bits - 1) if number else 0)
        else:
            codes = (low + span * values) * scale
        memory = np.frombuffer(plane, np.uint8 if bits == 8 else "<u2").reshape(plane.height, -1)
        memory[:, : plane.width] = codes.round()
    return frame


def make_video(
    path,
    times=EVEN,
    *,
    size=(WIDTH, HEIGHT),
    codec="libx264",
    pix_fmt="yuv420p",
    last=20,
    tick=TICK,
    turn=None,
    matrix=1,
    full=False,
    tags=(1, 1, 1),
    audio=None,
    late=0,
    options=None,
    metadata=None,
    container=None,
):
    """Write a video of `drawing`s; `tags` are primaries, transfer, matrix, `audio` a codec."""
    options = {"qp": "0", **(options or {})} if codec == "libx264" else options or {}
    form = {"movie_timescale": "48000"} if str(path).endswith(("mp4", "mov")) else {}
    with av.open(str(path), "w", format=container, options=form) as file:
        file.metadata.update(metadata or {})
        stream = file.add_stream(codec, rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        context = stream.codec_context
        context.time_base = tick
        context.color_primaries, context.color_trc, context.colorspace = tags
        context.color_range = (2 if full else 1) if tags[2] != 2 else 0
        if av.VideoFormat(pix_fmt).is_rgb:
            context.colorspace, context.color_range = 0, 2
        if turn is not None:
            stream.set_display_rotation(*turn)
        sound = file.add_stream(audio, rate=48000) if audio else None
        lasts = dict(zip(times, [*np.diff(times).tolist(), last], strict=True))
        for number, time in enumerate(times):
            picture = drawing(number, size[1], size[0])
            frame = stored(picture, pix_fmt, matrix, full, centered=codec == "mjpeg")
            frame.colorspace, frame.color_range = context.colorspace, context.color_range
            frame.pts, frame.time_base = time, tick
            for packet in stream.encode(frame):
                packet.duration = lasts.get(packet.pts, last)
                file.mux(packet)
        for packet in stream.encode(None):
            packet.duration = lasts.get(packet.pts, last)
            file.mux(packet)
        if sound is not None:
            hum(file, sound, float((times[-1] + last) * tick), late)
    return path


def hum(file, sound, seconds, late=0):
    """Encode a tone of `seconds` that begins `late` samples later than the video."""
    step = 960
    for start in range(0, int(seconds * 48000), step):
        wave = np.sin(np.arange(start, start + step) * 0.06).astype(np.float32) * 0.3
        form = sound.codec_context.format.name
        data = np.stack([wave, wave])
        if form != "fltp":
            data = (data.T.reshape(1, -1) * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(data, format=form, layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, start + late, Fraction(1, 48000)
        file.mux(sound.encode(frame))
    file.mux(sound.encode(None))


def ffmpeg(*arguments):
    """Run FFmpeg."""
    subprocess.run([get_ffmpeg_exe(), "-y", "-v", "error", *map(str, arguments)], check=True)


def packets(path, kind="audio"):
    """For each stream of a kind: when its packets are shown, in seconds, and their contents."""
    with av.open(str(path)) as file:
        found = {s.index: [] for s in file.streams if s.type == kind}
        for packet in file.demux(*[s for s in file.streams if s.type == kind]):
            if packet.size and packet.stream.index in found:
                content = hashlib.sha256(bytes(packet)).hexdigest()
                found[packet.stream.index].append((packet.pts * packet.time_base, content))
    return list(found.values())


def refused(kind, call, *args, **options):
    """Call, expect an error of `kind`, and return its message, which is one line."""
    with pytest.raises(kind) as caught:
        call(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)
