import base64
import errno
import io
import math
import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from conftest import read_clip
from PIL import Image

from b2v.errors import MediaError, ShapeError, UsageError
from b2v.media import clips
from b2v.media.clips import Clip, check_coding, check_target
from b2v.media.images import read_photo
from b2v.media.video_format import FromPixels
from b2v.media.video_reader import open_video
from b2v.media.video_writer import TARGETS

WIDTH, HEIGHT, FRAMES = 64, 48, 7
KINDS = ["clip.mp4", "clip.gif", "clip.webp", "clip", "clip/"]


def smooth_clip(height=HEIGHT, width=WIDTH, fps=10.0):
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    frames = []
    for number in range(FRAMES):
        wave = 128 + 60 * torch.sin(x / 9 + number / 4)
        frames.append(torch.stack([60 + 2 * x + 4 * number, 20 + 4 * y, wave]) / 255)
    return Clip(torch.stack(frames).clamp(0, 1), fps)


def psnr(found, expected):
    return -10 * math.log10((found - expected).square().mean().item())


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def refusal(kind, path, **options):
    with pytest.raises(kind) as caught:
        smooth_clip().save(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(Path(path)))
    return message


@pytest.mark.parametrize(
    ("name", "least"), [("clip.mp4", 38), ("clip.gif", 24), ("clip.webp", 40), ("clip", 50)]
)
@pytest.mark.parametrize(("height", "width"), [(48, 64), (47, 63), (48, 63), (47, 64), (16, 17)])
def test_seven_frames_in_are_seven_frames_out_at_their_size(tmp_path, name, least, height, width):
    clip = smooth_clip(height, width)
    assert clip.save(tmp_path / name) == tmp_path / name
    found = read_clip(tmp_path / name)
    assert found.frames.shape == (FRAMES, 3, height, width)
    assert len(found) == FRAMES
    assert found.fps == pytest.approx(10)
    assert psnr(found.frames, clip.frames) > least
    assert names(tmp_path) == [name]


@pytest.mark.parametrize(("height", "width"), [(48, 64), (47, 63)])
@pytest.mark.parametrize("color", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 128, 128)])
def test_flat_colors_survive_mp4(tmp_path, color, height, width):
    pixels = torch.tensor(color)[:, None, None].expand(3, height, width) / 255
    Clip(pixels.expand(FRAMES, -1, -1, -1), 10).save(tmp_path / "flat.mp4")
    found = read_clip(tmp_path / "flat.mp4").frames
    assert (found - pixels).abs().max() <= 3 / 255


def test_mp4_code_values_are_those_of_bt709_in_tv_range(tmp_path):
    green = torch.tensor([0.0, 1.0, 0.0])[:, None, None].expand(1, 3, HEIGHT, WIDTH)
    Clip(green, 10).save(tmp_path / "green.mp4")
    with av.open(str(tmp_path / "green.mp4")) as container:
        planes = next(container.decode(video=0)).to_ndarray(format="yuv420p")
    luma, chroma = planes[:HEIGHT], planes[HEIGHT:].reshape(2, -1)
    assert abs(luma.astype(int) - (16 + 219 * 0.7152)).max() <= 1
    assert abs(chroma[0].astype(int) - (128 - 224 * 0.7152 / 1.8556)).max() <= 1
    assert abs(chroma[1].astype(int) - (128 - 224 * 0.7152 / 1.5748)).max() <= 1


@pytest.mark.parametrize(("width", "layout"), [(64, "yuv420p"), (63, "yuv444p")])
def test_mp4_is_tagged_and_starts_fast(tmp_path, width, layout):
    smooth_clip(width=width).save(tmp_path / "clip.mp4")
    with av.open(str(tmp_path / "clip.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", layout)
        assert (context.color_primaries, context.color_trc, context.colorspace) == (1, 1, 1)
        assert context.color_range == 1
    data = (tmp_path / "clip.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize(("fps", "rate"), [(10, 10), (24000 / 1001, Fraction(24000, 1001))])
def test_mp4_keeps_the_exact_rate(tmp_path, fps, rate):
    smooth_clip(fps=fps).save(tmp_path / "clip.mp4")
    with av.open(str(tmp_path / "clip.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == rate
        assert stream.duration * stream.time_base == FRAMES / Fraction(rate)
        times = [frame.pts * stream.time_base for frame in container.decode(stream)]
    assert times == [number / Fraction(rate) for number in range(FRAMES)]


@pytest.mark.parametrize(
    ("name", "fps", "delays"),
    [
        ("clip.gif", 10, [100] * 7),
        ("clip.gif", 30, [30, 40, 30, 30, 40, 30, 30]),
        ("clip.webp", 30, [33, 34, 33, 33, 34, 33, 33]),
    ],
)
def test_delays_add_up_to_the_duration(tmp_path, name, fps, delays):
    smooth_clip(fps=fps).save(tmp_path / name)
    with Image.open(tmp_path / name) as image:
        found = []
        for number in range(image.n_frames):
            image.seek(number)
            image.load()
            found.append(image.info["duration"])
    assert found == delays
    assert read_clip(tmp_path / name).fps == pytest.approx(7000 / sum(delays))


@pytest.mark.parametrize(("name", "fps"), [("clip.gif", 60), ("clip.webp", 120)])
def test_a_rate_that_players_would_slow_down_is_refused(tmp_path, name, fps):
    with pytest.raises(UsageError, match="lower --fps"):
        smooth_clip(fps=fps).save(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "loop", "found"),
    [
        ("clip.gif", 0, 0),
        ("clip.gif", 1, None),
        ("clip.gif", 3, 2),
        ("clip.webp", 0, 0),
        ("clip.webp", 3, 3),
    ],
)
def test_loops_are_written_as_players_count_them(tmp_path, name, loop, found):
    smooth_clip().save(tmp_path / name, loop=loop)
    with Image.open(tmp_path / name) as image:
        assert image.info.get("loop") == found


@pytest.mark.parametrize("name", KINDS)
def test_equal_neighbors_are_not_merged(tmp_path, name):
    frames = smooth_clip().frames[[0, 0, 1, 1, 1, 2, 2]]
    Clip(frames, 10).save(tmp_path / name)
    found = read_clip(tmp_path / name).frames
    assert len(found) == FRAMES
    assert (found[0] - found[1]).square().mean() < 1e-4


@pytest.mark.parametrize("name", KINDS)
def test_a_still_of_one_color_and_one_frame_are_clips(tmp_path, name):
    Clip(torch.full((FRAMES, 3, HEIGHT, WIDTH), 0.4), 10).save(tmp_path / name)
    found = read_clip(tmp_path / name).frames
    assert (len(found), (found - 0.4).abs().max() <= 2 / 255) == (FRAMES, True)
    Clip(smooth_clip().frames[:1], 10).save(tmp_path / name, overwrite=True)
    assert len(read_clip(tmp_path / name)) == 1


def test_mp4_is_neither_darker_nor_brighter_than_the_clip(tmp_path):
    clip = smooth_clip()
    clip.save(tmp_path / "clip.mp4")
    bias = (read_clip(tmp_path / "clip.mp4").frames - clip.frames).mean((0, 2, 3)) * 255
    assert bias.abs().max() < 0.3


def test_folder_holds_numbered_pictures(tmp_path):
    clip = smooth_clip()
    clip.save(f"{tmp_path}/out.v1/")
    assert names(tmp_path / "out.v1") == [f"{number:06d}.png" for number in range(1, 8)]
    third = read_photo(tmp_path / "out.v1" / "000003.png").pixels
    assert (third - clip.frames[2]).abs().max() <= 0.51 / 255


@pytest.mark.parametrize("name", KINDS)
def test_an_existing_output_is_replaced_only_on_request(tmp_path, name):
    path = f"{tmp_path}/{name}"
    smooth_clip().save(path)
    assert "--overwrite" in refusal(UsageError, path)
    Clip(smooth_clip().frames[:3], 10).save(path, overwrite=True)
    assert len(read_clip(path)) == 3
    assert len(names(tmp_path)) == 1


def test_a_folder_is_replaced_only_where_it_holds_a_clip(tmp_path):
    (tmp_path / "out").mkdir()
    smooth_clip().save(tmp_path / "out")
    (tmp_path / "out" / "holiday.jpg").write_bytes(b"dear to someone")
    assert "more than a clip" in refusal(UsageError, tmp_path / "out", overwrite=True)
    assert len(names(tmp_path / "out")) == FRAMES + 1


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_file_is_not_exchanged_for_a_folder_or_the_reverse(tmp_path, kind):
    target = tmp_path / ("out" if kind == "file" else "out.mp4")
    target.touch() if kind == "file" else target.mkdir()
    assert f"is a {kind}" in refusal(UsageError, target, overwrite=True)


@pytest.mark.parametrize("name", ["clip.avi", "clip.txt", "clip.7", "frames_%d.tiff"])
def test_unknown_suffix_names_the_known_ones(tmp_path, name):
    said = refusal(UsageError, tmp_path / name)
    assert ".mp4, .mov, .mkv, .webm, .gif, .webp, or none for a folder" in said
    assert "--format tiff" in said


PAIRS = [(kind, codec) for kind, codecs in TARGETS.items() for codec in codecs]


@pytest.mark.parametrize(("kind", "codec"), PAIRS)
def test_each_codec_that_a_container_holds_keeps_frames_times_and_colors(tmp_path, kind, codec):
    clip, path = smooth_clip(64, 64, 24000 / 1001), tmp_path / f"clip{kind}"
    clip.save(path, codec=codec)
    found = read_clip(path)
    assert found.fps == pytest.approx(24000 / 1001, rel=1e-3)
    assert found.frames.shape == clip.frames.shape
    assert psnr(found.frames, clip.frames) > 36
    bias = (found.frames - clip.frames).mean((0, 2, 3)) * 255
    assert bias.abs().max() < 1.5  # another matrix would be 5 off
    with open_video(path) as video:
        assert video.info.codec == codec
        assert video.info.colors.matrix == video.info.colors.transfer == 1
        times = [float(frame.pts * video.info.time_base) for frame in video]
    assert times == pytest.approx([number * 1001 / 24000 for number in range(FRAMES)], abs=1e-3)
    assert names(tmp_path) == [path.name]


@pytest.mark.parametrize(
    ("name", "codec", "known"),
    [
        ("a.mp4", "prores", "cannot hold prores; use h264, hevc, av1, vp9"),
        ("a.webm", "h264", "cannot hold h264; use vp9, av1"),
        ("a.mov", "vp9", "cannot hold vp9; use h264, hevc, prores"),
        ("a.gif", "h264", "has no --codec; leave it out, or write .mp4, .mov, .mkv, .webm"),
        ("a", "h264", "has no --codec"),
    ],
)
def test_a_codec_that_the_kind_of_file_cannot_hold_is_refused(tmp_path, name, codec, known):
    assert known in refusal(UsageError, tmp_path / name, codec=codec)
    with pytest.raises(UsageError, match=re.escape(known)):
        check_target(tmp_path / name, overwrite=False, codec=codec)
    assert names(tmp_path) == []


def test_an_odd_size_that_a_codec_cannot_keep_is_refused_before_any_work(tmp_path):
    with pytest.raises(UsageError, match="av1 cannot keep the odd size 63x47; use h264 or vp9"):
        check_coding(tmp_path / "a.mkv", 47, 63, "av1")
    assert check_coding(tmp_path / "a.mkv", 47, 63, "vp9").codec == "vp9"
    assert check_coding(tmp_path / "frames", 47, 63).codec == "h264"  # which a folder has no use of


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("stills", ["png", "tiff"])
@pytest.mark.parametrize("transparent", [False, True])
def test_a_folder_of_either_kind_keeps_every_code_value(tmp_path, bits, stills, transparent):
    codes = torch.randint(0, 2**bits, (2, 3, 13, 17), generator=torch.Generator().manual_seed(1))
    frames = codes.float() / (2**bits - 1)
    alpha = torch.ones(1, 13, 17)
    alpha[:, 4:8, 5:9] = 0.5
    frames[:, :, 4:8, 5:9] = 1  # white shows through what is half there
    clip = Clip(frames, 10, alpha=alpha if transparent else None, bits=bits)
    clip.save(tmp_path / "frames", stills=stills)
    assert names(tmp_path / "frames") == [f"000001.{stills}", f"000002.{stills}"]
    for number, frame in enumerate(frames, 1):
        photo = read_photo(tmp_path / "frames" / f"{number:06d}.{stills}")
        assert (photo.bits, photo.alpha is not None) == (bits, transparent)
        assert (photo.on_white() - frame).abs().max() < 0.6 / (2**bits - 1)
    with Image.open(tmp_path / "frames" / f"000001.{stills}") as image:
        assert image.format == stills.upper()
    Clip(frames[:1], 10).save(tmp_path / "frames", overwrite=True)
    assert names(tmp_path / "frames") == ["000001.png"]
    with pytest.raises(UsageError, match="use png or tiff"):
        clip.save(tmp_path / "other", stills="bmp")


def test_an_input_is_never_the_output(tmp_path):
    source = tmp_path / "photo.webp"
    source.write_bytes(b"input")
    (tmp_path / "link.webp").symlink_to(source)
    for target in (source, tmp_path / "link.webp", tmp_path):
        with pytest.raises(UsageError, match="input"):
            check_target(target, overwrite=True, inputs=[source])
    assert check_target(str(tmp_path / "b.webp"), overwrite=False, inputs=[source]).name == "b.webp"


def test_missing_and_unwritable_folders_are_refused_before_any_work(tmp_path, monkeypatch):
    with pytest.raises(MediaError, match=r"does not exist; create it first"):
        check_target(tmp_path / "none" / "clip.mp4", overwrite=False)
    (tmp_path / "file").touch()
    with pytest.raises(MediaError, match="is not a folder"):
        check_target(tmp_path / "file" / "clip.mp4", overwrite=False)
    monkeypatch.setattr(clips.os, "access", lambda *_: False)
    with pytest.raises(MediaError, match="no permission"):
        check_target(tmp_path / "clip.mp4", overwrite=False)


@pytest.mark.parametrize("name", ["", "..", "/", "x" * 300, "x" * 245 + ".mp4"])
def test_what_names_nothing_new_is_refused(name):
    with pytest.raises(UsageError, match="not a name for an output"):
        check_target(name, overwrite=True)


@pytest.mark.parametrize("name", KINDS[:4])
@pytest.mark.parametrize(
    ("stop", "raised"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt),
        (OSError(errno.ENOSPC, "No space left on device"), MediaError),
        (av.error.ExternalError(1, "encoder failed"), MediaError),
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_an_interrupted_write_leaves_things_as_they_were(
    tmp_path, monkeypatch, name, stop, raised, overwrite
):
    path = f"{tmp_path}/{name}"
    if overwrite:
        smooth_clip().save(path)
    calls = []

    def fail_at_the_third(pixels, bits=8):
        calls.append(1)
        if len(calls) == 3:
            raise stop
        return np.ascontiguousarray(pixels.mul(255).byte().permute(1, 2, 0).numpy())

    def fail_as_video(self, pixels):
        fail_at_the_third(pixels)
        return convert(self, pixels)

    convert = FromPixels.__call__
    monkeypatch.setattr(FromPixels, "__call__", fail_as_video)
    for module in ("b2v.media.clips", "b2v.media.images"):
        monkeypatch.setattr(f"{module}.to_codes", fail_at_the_third)
    with pytest.raises(raised):
        smooth_clip().save(path, overwrite=overwrite)
    monkeypatch.undo()
    if overwrite:
        assert len(read_clip(path)) == FRAMES
    assert len(names(tmp_path)) == int(overwrite)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.gif", "clip.webp"])
def test_a_file_cut_short_on_the_disk_is_noticed(tmp_path, monkeypatch, name):
    way = "encode_video" if name == "clip.mp4" else "encode_animation"
    encode = getattr(clips, way)

    def lose_the_end(clip, *args):
        encode(replace(clip, frames=clip.frames[:5]), *args)

    monkeypatch.setattr(clips, way, lose_the_end)
    assert "5 frames" in refusal(MediaError, tmp_path / name)

    def cut(clip, part, *args):
        encode(clip, part, *args)
        part.write_bytes(part.read_bytes()[: part.stat().st_size // 3])

    monkeypatch.setattr(clips, way, cut)
    refusal(MediaError, tmp_path / name)
    assert names(tmp_path) == []


@pytest.mark.parametrize(("name", "side"), [("a.mp4", 16384), ("a.gif", 65535), ("a.webp", 16383)])
def test_sides_that_a_kind_of_file_cannot_hold_are_refused(tmp_path, name, side):
    with pytest.raises(UsageError, match=f"takes {side} a side; scale down, or name a folder"):
        Clip(torch.zeros(1, 3, 1, side + 1), 10).save(tmp_path / name)
    Clip(torch.zeros(1, 3, 2, side), 10).save(tmp_path / name)


def test_clip_checks_its_frames_and_rate():
    with pytest.raises(ShapeError, match=r"\[3, 48, 64\]; expected \[T, 3, H, W\]"):
        Clip(torch.zeros(3, 48, 64), 10)
    with pytest.raises(ShapeError, match=r"\[0, 3, 48, 64\]"):
        Clip(torch.zeros(0, 3, 48, 64), 10)
    for fps in (0, -1, math.nan, math.inf, 1e6):
        with pytest.raises(UsageError, match="frames a second"):
            Clip(torch.zeros(7, 3, 48, 64), fps)
    with pytest.raises(UsageError, match="loops"):
        smooth_clip().save("clip.gif", loop=-1)


@pytest.mark.parametrize("axis", [1, 2])
def test_color_of_odd_sizes_is_not_moved(tmp_path, axis):
    red = torch.linspace(0.25, 0.75, 17).expand(17, 17)
    red = red if axis == 2 else red.T
    pixels = torch.stack([red, torch.full_like(red, 0.4), 1 - red])
    Clip(pixels.expand(FRAMES, -1, -1, -1), 10).save(tmp_path / "clip.mp4")
    moved = (read_clip(tmp_path / "clip.mp4").frames - pixels)[..., 2:-2, 2:-2].mean((0, 2, 3))
    assert moved.abs().max() < 1 / 255  # half a pixel would be 4


def test_a_clip_shows_itself_in_a_line_and_in_a_notebook():
    clip = Clip(torch.rand(3, 3, 16, 24), 12.5)
    assert repr(clip) == "<Clip of 3 frames of 24x16 at 12.5 a second>"
    found = re.fullmatch(
        r'<img alt="&lt;Clip of 3 .*&gt;" src="data:image/webp;base64,(.*)">', clip._repr_html_()
    )
    with Image.open(io.BytesIO(base64.b64decode(found[1]))) as picture:
        assert (picture.format, picture.n_frames, picture.size) == ("WEBP", 3, (24, 16))
