import math
import os
import shutil
import subprocess
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
import torch
from PIL import Image
from video_samples import (
    EVEN,
    FRAMES,
    HEIGHT,
    TICK,
    UNEVEN,
    WIDTH,
    drawing,
    ffmpeg,
    make_video,
    refused,
)

from b2v.errors import MediaError, UsageError
from b2v.media.video_format import Turn, bend, hlg_to_light, pq_to_light
from b2v.media.video_reader import TruncatedVideoError, open_video, read_video


def frames_of(path, **part):
    with open_video(path, **part) as reader:
        return list(reader)


def error_of(pixels, number, *, height=HEIGHT, width=WIDTH):
    return (pixels - drawing(number, height, width)).abs().max().item() * 255


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.nut"])
@pytest.mark.parametrize("times", [EVEN, UNEVEN])
def test_every_frame_comes_at_its_time(tmp_path, name, times):
    frames = frames_of(make_video(tmp_path / name, times))
    with open_video(tmp_path / name) as reader:
        tick = reader.info.time_base
    found = [frame.pts * tick for frame in frames]
    slack = Fraction(1, 1000) if name == "a.mkv" else 0
    assert max(abs(a - b * TICK) for a, b in zip(found, times, strict=True)) <= slack
    ends = [frame.pts + frame.duration for frame in frames]
    assert ends[:-1] == [frame.pts for frame in frames[1:]]
    assert abs(ends[-1] * tick - (times[-1] + 20) * TICK) <= max(slack, Fraction(1, 30))


def test_the_last_frame_stays_until_the_end_of_the_video(tmp_path):
    frames = frames_of(make_video(tmp_path / "a.mp4", UNEVEN, last=33))
    with open_video(tmp_path / "a.mp4") as reader:
        assert frames[-1].duration * reader.info.time_base == 33 * TICK


def test_info_tells_what_the_file_states(tmp_path):
    path = make_video(tmp_path / "a.mp4", audio="aac", metadata={"title": "Walk"})
    with open_video(path) as reader:
        info = reader.info
    assert (info.width, info.height, info.frames) == (WIDTH, HEIGHT, FRAMES)
    assert (info.codec, info.pix_fmt, info.bits) == ("h264", "yuv420p", 8)
    assert (info.average_rate, info.duration) == (30, Fraction(FRAMES, 30))
    assert (info.tags["title"], [s.codec for s in info.of_kind("audio")]) == ("Walk", ["aac"])
    assert (info.turn.degrees, info.cut, info.colors.hdr, info.chapters) == (0, None, None, 0)


@pytest.mark.parametrize(
    ("pix_fmt", "codec", "most"),
    [
        ("yuv420p", "libx264", 3.6),
        ("yuv420p10le", "libx264", 2.5),
        ("yuv444p10le", "libx264", 0.9),
        ("yuv422p10le", "prores_ks", 2.2),
        ("bgr0", "ffv1", 0.51),
        ("gbrp10le", "ffv1", 0.75),
        ("yuvj420p", "mjpeg", 6),
    ],
)
def test_code_values_become_the_colors_that_were_stored(tmp_path, pix_fmt, codec, most):
    full = codec == "mjpeg"
    options = {"qmin": "1", "qmax": "1"} if full else {}
    matrix = 5 if full else 1
    path = make_video(
        tmp_path / "a.mkv", pix_fmt=pix_fmt, codec=codec, options=options, full=full, matrix=matrix
    )
    for number, frame in enumerate(frames_of(path)):
        assert frame.pixels.dtype == torch.float32
        assert error_of(frame.pixels, number) < most
        assert (frame.pixels - drawing(number)).mean((1, 2)).abs().max() < 0.55 / 255


@pytest.mark.parametrize("pix_fmt", ["yuv444p", "yuv444p10le"])
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_black_gray_and_white_are_exact(tmp_path, pix_fmt, level):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, pix_fmt
        stream.codec_context.colorspace, stream.codec_context.color_range = 1, 1
        frame = av.VideoFrame(32, 32, pix_fmt)
        scale = 4 if "10" in pix_fmt else 1
        for plane, code in zip(frame.planes, (16 + 219 * level, 128, 128), strict=True):
            np.frombuffer(plane, np.uint16 if scale == 4 else np.uint8)[:] = round(code * scale)
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    pixels = frames_of(path)[0].pixels
    assert (pixels - level).abs().max() < 0.6 / 255
    assert level == 0.5 or (pixels == level).all()


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(
    ("matrix", "tag", "size"),
    [(1, 1, (64, 48)), (5, 6, (64, 48)), (5, 5, (64, 48)), (9, 9, (64, 48)), (5, 2, (64, 48)),
     (1, 2, (1280, 48)), (1, 2, (64, 720))],
)  # fmt: skip
def test_matrix_and_range_are_as_tagged_or_as_players_guess(tmp_path, matrix, tag, size, full):
    if full and tag == 2:
        pytest.skip("without tags there is no full range")
    path = make_video(
        tmp_path / "a.mp4", EVEN[:2], size=size, matrix=matrix, full=full, tags=(1, 1, tag)
    )
    for number, frame in enumerate(frames_of(path)):
        assert error_of(frame.pixels, number, height=size[1], width=size[0]) < 3.6


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_turned_and_mirrored_video_is_upright(tmp_path, degrees, mirrored):
    path = make_video(tmp_path / "a.mp4", EVEN[:3], turn=(degrees, mirrored))
    with open_video(path) as reader:
        info, frames = reader.info, list(reader)
    meant = drawing(0)
    meant = meant.flip(2) if mirrored and degrees in (0, 180) else meant
    meant = meant.flip(1) if mirrored and degrees in (90, 270) else meant
    meant = torch.rot90(meant, degrees // 90, (1, 2))
    candidates = [meant] if not mirrored else [meant, meant.flip(1).flip(2)]
    assert frames[0].pixels.shape == meant.shape
    assert (info.height, info.width) == tuple(meant.shape[1:])
    assert min((frames[0].pixels - one).abs().max() for one in candidates) < 3.6 / 255
    if not mirrored:
        assert info.turn.degrees == degrees


def test_all_eight_turns_differ():
    assert len({Turn(a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1)}) == 8


@pytest.mark.parametrize(
    ("start", "end"), [(0, 0.1), (0.1, None), (0.07, 0.2), (5, 5.5), (9.9, 20)]
)
def test_a_part_is_exact_and_counts_from_its_first_frame(tmp_path, start, end):
    times = [20 * number for number in range(300)]
    path = make_video(tmp_path / "a.mp4", times, options={"g": "48", "bf": "2"})
    with open_video(path, start, end) as reader:
        tick, frames, info = reader.info.time_base, list(reader), reader.info
    wanted = [n for n, t in enumerate(times) if start <= float(t * TICK) < (end or math.inf)]
    assert [round((f.pts * tick) / (20 * TICK)) for f in frames] == [n - wanted[0] for n in wanted]
    assert frames[0].pts == 0
    assert error_of(frames[0].pixels, wanted[0]) < 3.6
    assert frames[-1].duration * tick == 20 * TICK
    assert info.cut is not None or start == 0
    assert info.cut is None or info.cut[0] == wanted[0] * 20 * TICK


@pytest.mark.parametrize(("start", "end"), [(-1, None), (2, 1), (1, 1), (math.nan, None)])
def test_a_part_that_cannot_be_is_refused(tmp_path, start, end):
    path = make_video(tmp_path / "a.mp4")
    assert "expected 0 <= start < end" in refused(UsageError, open_video, path, start, end)


def test_a_part_beyond_the_end_is_refused(tmp_path):
    path = make_video(tmp_path / "a.mp4")
    assert "no frames from 9 s" in refused(UsageError, open_video, path, 9)


def test_skipped_frames_are_not_given(tmp_path):
    path = make_video(tmp_path / "a.mp4", UNEVEN)
    with open_video(path) as reader:
        reader.skip(5)
        frames, tick = list(reader), reader.info.time_base
    assert [frame.pts * tick for frame in frames] == [time * TICK for time in UNEVEN[5:]]
    with open_video(path) as reader:
        assert "3 frames before" in refused(MediaError, reader.skip, FRAMES + 3)


def test_transparent_gif_is_laid_on_white(tmp_path):
    path = tmp_path / "a.gif"
    pages = [Image.new("RGBA", (32, 32), (0, 0, 0, 0)) for _ in range(3)]
    for number, page in enumerate(pages):
        page.paste((200, 0, 0, 255), (number, 0, number + 8, 32))
    pages[0].save(path, save_all=True, append_images=pages[1:], duration=[50, 70, 90], disposal=2)
    frames = frames_of(path)
    assert [frame.duration for frame in frames][:2] == [5, 7]
    assert (frames[0].pixels[:, :, 20:] == 1).all()
    assert frames[0].pixels[:, 5, 3].tolist() == pytest.approx([200 / 255, 0, 0], abs=0.01)


def test_frames_of_another_size_are_scaled_and_told(tmp_path):
    make_video(tmp_path / "a.h264", EVEN[:3], container="h264", options={"bf": "0"})
    make_video(tmp_path / "b.h264", EVEN[:3], container="h264", size=(128, 96))
    data = (tmp_path / "a.h264").read_bytes() + (tmp_path / "b.h264").read_bytes()
    (tmp_path / "c.h264").write_bytes(data)
    with open_video(tmp_path / "c.h264") as reader:
        frames = list(reader)
        assert reader.notes == [f"{tmp_path / 'c.h264'}: 3 frames were scaled to 64x48"]
    assert [frame.pixels.shape for frame in frames] == [(3, HEIGHT, WIDTH)] * 6
    assert all(a.pts < b.pts for a, b in pairwise(frames))


def test_pictures_of_the_cover_are_not_the_video(tmp_path):
    make_video(tmp_path / "a.mp4", audio="aac")
    Image.new("RGB", (200, 200)).save(tmp_path / "cover.jpg")
    cover = ["-map", 0, "-map", 1, "-c", "copy", "-disposition:v:1", "attached_pic"]
    ffmpeg("-i", tmp_path / "a.mp4", "-i", tmp_path / "cover.jpg", *cover, tmp_path / "b.mp4")
    assert len(frames_of(tmp_path / "b.mp4")) == FRAMES
    only = ["-map", "0:a", "-map", 1, "-c", "copy", "-disposition:v:0", "attached_pic"]
    ffmpeg("-i", tmp_path / "a.mp4", "-i", tmp_path / "cover.jpg", *only, tmp_path / "c.mp4")
    said = refused(MediaError, open_video, tmp_path / "c.mp4")
    assert said.endswith("has only a cover picture; expected a video")


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_brought_to_standard_range_and_told(tmp_path, transfer, name):
    path = make_video(tmp_path / "a.mp4", pix_fmt="yuv420p10le", matrix=9, tags=(9, transfer, 9))
    with open_video(path) as reader:
        frame = next(iter(reader))
        assert (reader.info.colors.hdr, name in reader.notes[0]) == (name, True)
    assert 0 <= frame.pixels.min() < frame.pixels.max() <= 1


def test_light_of_hdr_has_its_known_values():
    code = torch.tensor([0.58069, 0.75183])[None, None].expand(3, 1, -1)  # 203 and 1000 nits
    assert pq_to_light(code)[0, 0].tolist() == pytest.approx([1, 1000 / 203], rel=1e-3)
    white = hlg_to_light(torch.tensor([0.75, 1.0])[None, None].expand(3, 1, -1))[0, 0]
    assert white.tolist() == pytest.approx([1, 1000 / 203], rel=0.01)
    light = bend(torch.tensor([0.0, 0.25, 0.5, 1000 / 203, 40.0]))
    assert light.tolist() == pytest.approx([0, 0.25, 0.5, 1, 1])


def test_a_file_cut_in_the_middle_gives_what_is_there(tmp_path):
    times = [20 * number for number in range(90)]
    whole = make_video(tmp_path / "a.mp4", times, options={"bf": "0"})
    ffmpeg("-i", whole, "-c", "copy", "-movflags", "+faststart", tmp_path / "b.mp4")
    ffmpeg("-i", whole, "-c", "copy", tmp_path / "b.mkv")
    for name in ("b.mp4", "b.mkv"):
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) * 6 // 10])
        found = []
        with open_video(tmp_path / name) as reader, pytest.raises(TruncatedVideoError) as caught:
            found.extend(reader)
        assert 5 < len(found) == caught.value.frames < 90
        assert f"{name}: video is truncated after {len(found)} frames" in str(caught.value)


KINDS = {
    **{"a.mp4": [], "a.mov": [], "a.mkv": [], "a.webm": ["-c:v", "libvpx-vp9", "-cpu-used", "8"]},
    **{"front.mp4": ["-movflags", "+faststart"], "parts.mp4": ["-movflags", "frag_keyframe"]},
    **{
        "a.avi": [],
        "mpeg4.avi": ["-c:v", "mpeg4"],
        "a.flv": ["-an"],
        "sound.flv": ["-ar", "44100"],
    },
    **{"a.ts": [], "a.m2ts": [], "a.wmv": ["-c:v", "wmv2"], "a.gif": ["-an"]},
}
"""Kinds of video file that tell how long they are, and how FFmpeg makes them."""


@pytest.mark.parametrize("name", KINDS)
def test_a_cut_file_of_any_kind_is_told(tmp_path, name):
    clip = make_video(tmp_path / "clip.mkv", [20 * n for n in range(90)], audio="aac")
    ffmpeg("-i", clip, "-g", 15, *KINDS[name], tmp_path / name)
    data = (tmp_path / name).read_bytes()
    assert len(frames_of(tmp_path / name)) in (90, 91)  # GIF has its own clock
    for share in (0.3, 0.7, 0.8):
        end = int(share * len(data)) | 1  # in a packet of TS, not between two
        (tmp_path / name).write_bytes(data[:end])
        with pytest.raises(MediaError, match=r"video is truncated after \d+ frames|cut off"):
            frames_of(tmp_path / name)


@pytest.mark.parametrize("kind", ["avi", "mkv"])
def test_a_file_of_unstated_length_is_whole(tmp_path, kind):
    """As a recorder leaves it that had no time to say how much it wrote."""
    path = make_video(tmp_path / f"a.{kind}", container={"mkv": "matroska"}.get(kind))
    data = bytearray(path.read_bytes())
    if kind == "avi":
        data[4:8] = bytes(4)
        at = data.index(b"strh") + 8 + 32
        data[at : at + 4] = bytes(4)
    else:
        at = data.index(bytes.fromhex("18538067")) + 4
        data[at : at + 8] = b"\x01" + b"\xff" * 7
    path.write_bytes(data)
    assert len(frames_of(path)) == FRAMES


@pytest.mark.parametrize("reorder", [0, 1, 2, 3])
def test_avi_that_stores_frames_in_another_order_shows_them_evenly(tmp_path, reorder):
    options = {"bf": str(reorder), "b_strategy": "0", "qp": "8"}
    make_video(tmp_path / "a.mp4", [20 * n for n in range(40)], options=options, audio="mp2")
    ffmpeg("-i", tmp_path / "a.mp4", "-c", "copy", tmp_path / "a.avi")
    frames = frames_of(tmp_path / "a.avi")
    with open_video(tmp_path / "a.avi") as reader:
        tick = reader.info.time_base
    assert [frame.pts * tick for frame in frames] == [Fraction(n, 30) for n in range(40)]
    assert {frame.duration * tick for frame in frames[:-1]} == {Fraction(1, 30)}
    assert all(error_of(frame.pixels, number) < 6 for number, frame in enumerate(frames))
    part = frames_of(tmp_path / "a.avi", start=0.5)
    assert [frame.pts for frame in part] == [frame.pts for frame in frames[:25]]


def test_times_that_go_back_later_in_a_video_give_way_to_those_of_decoding(tmp_path):
    make_video(tmp_path / "a.mp4", [20 * n for n in range(40)], options={"bf": "2", "qp": "8"})
    with av.open(str(tmp_path / "a.mp4")) as source, av.open(str(tmp_path / "a.mkv"), "w") as file:
        stream = file.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.pts, packet.stream = packet.dts, stream
                file.mux(packet)
    steps = [frame.duration for frame in frames_of(tmp_path / "a.mkv")]
    assert all(30 <= step <= 70 for step in steps[:-1])


def bad_files(folder):
    video = make_video(folder / "whole.mp4", audio="aac")
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("Dear diary, " * 300)
    (folder / "text.txt").write_text("Dear diary, " * 300)
    (folder / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nwhole.mp4\n#EXT-X-ENDLIST\n")
    (folder / "cut.mp4").write_bytes(video.read_bytes()[:2000])
    (folder / "folder.mp4").mkdir()
    ffmpeg("-i", video, "-map", "0:a", "-c", "copy", folder / "sound.mp4")
    ffmpeg("-i", video, "-map", "0:v", "-c", "copy", "-t", 0, folder / "none.mkv")
    ffmpeg("-i", video, "-map", "0:v", "-c", "copy", "-t", 0, folder / "none.mp4")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing.mp4", "no such file; check the name"),
        ("empty.mp4", "is empty (0 bytes)"),
        ("text.mp4", "not a video that can be read"),
        ("text.txt", "not a video that can be read"),
        ("list.m3u8", "not a video that can be read"),
        ("cut.mp4", "not a video that can be read, or cut off"),
        ("folder.mp4", "is a folder"),
        ("sound.mp4", "no video stream inside, only audio"),
        ("none.mkv", ""),
        ("none.mp4", ""),
    ],
)
def test_what_is_no_video_is_refused_in_one_line(tmp_path, name, said):
    bad_files(tmp_path)
    message = refused(MediaError, open_video, tmp_path / name)
    assert message.startswith(f"{tmp_path / name}: ")
    assert said in message


def test_a_file_without_permission_is_refused(tmp_path):
    path = make_video(tmp_path / "a.mp4")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    assert "cannot be opened" in refused(MediaError, open_video, path)


def test_names_are_never_taken_for_addresses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.move(make_video(tmp_path / "a.mp4"), tmp_path / "pipe:0.mp4")
    assert len(frames_of("pipe:0.mp4")) == FRAMES
    assert "no such file" in refused(MediaError, open_video, "http://127.0.0.1/a.mp4")


def test_code_values_are_read_as_whole_numbers(tmp_path):
    frames = list(read_video(make_video(tmp_path / "a.mp4")))
    assert (len(frames), frames[0].dtype) == (FRAMES, torch.uint8)
    assert error_of(frames[3] / 255, 3) < 3.6


def test_memory_does_not_grow_with_the_length(driver, tmp_path):
    times = [20 * number for number in range(400)]
    path = make_video(tmp_path / "a.mp4", times, size=(160, 120), options={"preset": "ultrafast"})
    code = (
        "import sys, torch; from b2v.inference.runtime import peak_bytes\n"
        "from b2v.media.video_reader import open_video\n"
        "peak = lambda: peak_bytes(torch.device('cpu'))\n"
        "reader = open_video(sys.argv[1]); frames = iter(reader)\n"
        "[next(frames) for _ in range(40)]; before = peak()\n"
        "print(sum(1 for _ in frames), peak() - before)"
    )
    driver.folder = tmp_path
    with driver.start(path, script=code, stdout=subprocess.PIPE) as process:
        count, grown = map(int, process.communicate()[0].split())
    assert count == 360
    assert grown < 20_000_000  # bytes; the frames that were read would be 83 MB
