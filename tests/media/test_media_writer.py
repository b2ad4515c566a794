import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch
from video_samples import EVEN, FRAMES, HEIGHT, TICK, UNEVEN, WIDTH, drawing, make_video, refused

from b2v.errors import MediaError, ShapeError, UsageError
from b2v.media.segments import SegmentWriter
from b2v.media.video_reader import open_video
from b2v.media.video_writer import CODECS, TARGETS, Encoding, VideoWriter, choose_codec


@pytest.fixture
def info(tmp_path):
    with open_video(make_video(tmp_path / "source.mp4", UNEVEN)) as reader:
        return reader.info


def info_of(path, **options):
    with open_video(make_video(path, **options)) as reader:
        return reader.info


def write(writer, times=UNEVEN, *, height=HEIGHT, width=WIDTH, first=0):
    scale = TICK / writer.info.time_base
    ends = [*times[1:], times[-1] + 20]
    for number, (time, end) in enumerate(zip(times, ends, strict=True)):
        if number >= first:
            pts, duration = time * scale, (end - time) * scale
            writer.write(drawing(number, height, width), int(pts), int(duration))


def read(path):
    with open_video(path) as reader:
        frames = list(reader)
        return frames, [frame.pts * reader.info.time_base for frame in frames], reader.info


def worst(frames, *, height=HEIGHT, width=WIDTH):
    errors = [(f.pixels - drawing(n, height, width)).abs().max() for n, f in enumerate(frames)]
    return max(errors).item() * 255


@pytest.mark.parametrize("times", [EVEN, UNEVEN])
@pytest.mark.parametrize("codec", CODECS)
def test_every_timestamp_and_the_duration_are_kept(tmp_path, info, codec, times):
    path = tmp_path / f"a.{CODECS[codec].parts}"
    with VideoWriter(path, info, Encoding(codec)) as writer:
        write(writer, times)
    frames, found, read_info = read(path)
    assert found == [time * TICK for time in times]
    assert frames[-1].duration * read_info.time_base == 20 * TICK
    assert read_info.duration == (times[-1] + 20) * TICK
    assert worst(frames) < (30 if codec == "av1" else 14)


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "most"),
    [
        ("h264", "yuv420p", 5),
        ("h264", "yuv444p", 6),
        ("h264", "yuv420p10le", 4),
        ("hevc", "yuv420p10le", 4),
        ("prores", "yuv444p10le", 3),
    ],
)
def test_colors_are_kept_and_tagged(tmp_path, info, codec, pix_fmt, most):
    path = tmp_path / f"a.{CODECS[codec].parts}"
    with VideoWriter(path, info, Encoding(codec, crf=1, pix_fmt=pix_fmt)) as writer:
        write(writer)
    frames, _, read_info = read(path)
    assert read_info.pix_fmt == pix_fmt
    assert worst(frames) < most
    bias = torch.stack([f.pixels - drawing(n) for n, f in enumerate(frames)]).mean((0, 2, 3))
    assert bias.abs().max() < 0.5 / 255
    with av.open(str(path)) as file:
        frame = next(file.decode(video=0))
        assert (frame.colorspace, frame.color_range) == (1, 1)
        assert (frame.color_primaries, frame.color_trc) == (1, 1)


def test_primaries_of_the_source_are_passed_on(tmp_path):
    info = info_of(tmp_path / "p3.mp4", tags=(12, 13, 1))
    with VideoWriter(tmp_path / "a.mp4", info) as writer:
        write(writer)
    colors = read(tmp_path / "a.mp4")[2].colors
    assert (colors.primaries, colors.transfer, colors.matrix) == (12, 13, 1)


def test_tone_mapped_hdr_is_tagged_as_ordinary_video(tmp_path):
    tags = {"pix_fmt": "yuv420p10le", "matrix": 9, "tags": (9, 16, 9)}
    info = info_of(tmp_path / "hdr.mp4", **tags)
    with VideoWriter(tmp_path / "a.mp4", info) as writer:
        write(writer)
    colors = read(tmp_path / "a.mp4")[2].colors
    assert (colors.primaries, colors.transfer, colors.hdr) == (1, 1, None)


@pytest.mark.parametrize("size", [(63, 47), (64, 47), (63, 48), (17, 16)])
@pytest.mark.parametrize(("codec", "layout"), [("h264", "yuv444p"), ("vp9", "yuv420p")])
def test_odd_sizes_are_kept(tmp_path, size, codec, layout):
    width, height = size
    info = info_of(tmp_path / "odd.mkv", size=size, codec="ffv1", pix_fmt="yuv444p")
    assert (info.width, info.height) == size
    with VideoWriter(tmp_path / "a.mp4", info, Encoding(codec)) as writer:
        write(writer, EVEN, height=height, width=width)
    frames, _, read_info = read(tmp_path / "a.mp4")
    assert (read_info.width, read_info.height, read_info.pix_fmt) == (*size, layout)
    assert worst(frames, height=height, width=width) < 20


def test_pixels_that_are_not_square_stay_so(tmp_path):
    make_video(tmp_path / "a.mkv", options={"x264-params": "sar=4/3"})
    with open_video(tmp_path / "a.mkv") as reader:
        info = reader.info
    assert info.pixel_aspect == Fraction(4, 3)
    with VideoWriter(tmp_path / "b.mp4", info) as writer:
        write(writer, EVEN)
    assert read(tmp_path / "b.mp4")[2].pixel_aspect == Fraction(4, 3)


def test_what_does_not_fit_is_refused(tmp_path, info):
    with VideoWriter(tmp_path / "a.mp4", info) as writer:
        write(writer)
        assert "[3, 47, 64]; expected [3, 48, 64]" in refused(
            ShapeError, writer.write, torch.zeros(3, 47, 64), 10**6, 1
        )
        assert "does not follow" in refused(UsageError, writer.write, drawing(0), 5, 1)
    odd = info_of(tmp_path / "odd.mkv", size=(63, 48), codec="ffv1", pix_fmt="yuv444p")
    assert "odd size 63x48" in refused(
        UsageError, VideoWriter, tmp_path / "b.mp4", odd, Encoding("av1")
    )
    wrong = Encoding("h264", pix_fmt="yuv420p12le")
    assert "h264 cannot store yuv420p12le" in refused(
        UsageError, VideoWriter, tmp_path / "b.mp4", info, wrong
    )


def test_suffixes_name_what_they_hold(tmp_path):
    assert {suffix: choose_codec(tmp_path / f"a{suffix}") for suffix in TARGETS} == {
        ".mp4": "h264", ".mov": "h264", ".mkv": "h264", ".webm": "vp9",
    }  # fmt: skip
    assert choose_codec(tmp_path / "a.MP4", "hevc") == "hevc"
    for name in ("a.avi", "a.gif", "a", "a.txt"):
        assert ".mp4, .mov, .mkv, .webm" in refused(UsageError, choose_codec, tmp_path / name)
    assert "use vp9, av1" in refused(UsageError, choose_codec, tmp_path / "a.webm", "h264")


@pytest.fixture
def full_disk(tmp_path):
    """Folder on a file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def noise(writer, count=60):
    for number in range(count):
        writer.write(torch.rand(3, HEIGHT, WIDTH), number * 640, 640)


def test_a_full_disk_is_one_clear_line(full_disk, info):
    def fill():
        with VideoWriter(full_disk / "a.mp4", info) as writer:
            noise(writer)

    message = refused(MediaError, fill)
    assert message.startswith(f"{full_disk / 'a.mp4'}: cannot be written (No space left on device)")


def test_a_full_disk_leaves_no_pieces(full_disk, info):
    def fill():
        with SegmentWriter(full_disk / "a.mp4", info, each=10) as writer:
            noise(writer)

    message = refused(MediaError, fill)
    assert message.startswith(f"{full_disk / 'a.mp4'}: cannot be written")
    assert list(full_disk.iterdir()) == []


def test_a_device_that_is_full_is_one_clear_line(info):
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")

    def fill():
        with VideoWriter(Path("/dev/full"), info, container="matroska") as writer:
            noise(writer)

    assert "/dev/full: cannot be written" in refused(MediaError, fill)


def contents(path):
    return [frame.pixels for frame in read(path)[0]]


@pytest.mark.parametrize("codec", ["h264", "hevc", "vp9", "prores"])
def test_a_stopped_run_that_goes_on_gives_the_same_video(tmp_path, info, codec):
    encoding = Encoding(codec)
    with SegmentWriter(tmp_path / "whole.mkv", info, encoding, each=5) as writer:
        write(writer)
        whole = contents(writer.join())
        times = list(writer.timestamps)

    def stopped():
        with SegmentWriter(tmp_path / "a.mkv", info, encoding, each=5, keep=True) as writer:
            write(writer, UNEVEN[:8])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    with SegmentWriter(tmp_path / "a.mkv", info, encoding, each=5, resume=True) as writer:
        assert writer.done_frames == 5
        write(writer, first=writer.done_frames)
        joined = writer.join()
        assert list(writer.timestamps) == times
        assert writer.end * info.time_base == (UNEVEN[-1] + 20) * TICK
    frames, found, _ = read(joined)
    assert found == [time * TICK for time in UNEVEN]
    assert all(torch.equal(a.pixels, b) for a, b in zip(frames, whole, strict=True))


def test_times_that_do_not_begin_at_zero_are_exact_in_pieces(tmp_path, info):
    times = [time + 12347 for time in UNEVEN]
    with SegmentWriter(tmp_path / "a.mp4", info, each=5) as writer:
        write(writer, times)
        assert read(writer.join())[1] == [time * TICK for time in times]


def test_state_is_that_of_the_last_closed_piece(tmp_path, info):
    calls = []

    def save():
        calls.append(1)
        return b"state %d" % len(calls)

    with SegmentWriter(tmp_path / "a.mp4", info, each=5, keep=True, save=save) as writer:
        write(writer, UNEVEN[:10])
    names = sorted(entry.name for entry in writer.folder.iterdir())
    assert names == ["000000_0.mp4", "000001_3168.mp4", "000002.state", "key.txt"]
    with SegmentWriter(tmp_path / "a.mp4", info, each=5, resume=True) as writer:
        assert (writer.done_frames, writer.state) == (10, b"state 2")
    (writer.folder / "000001_3168.mp4").write_bytes(b"cut")
    with SegmentWriter(tmp_path / "a.mp4", info, each=5, resume=True) as writer:
        assert (writer.done_frames, writer.state) == (5, None)


def test_only_the_same_run_goes_on(tmp_path, info):
    def go_on(**options):
        with SegmentWriter(tmp_path / "a.mp4", info, keep=True, **options) as writer:
            write(writer, first=writer.done_frames)
            return writer.done_frames

    assert go_on(key="one") == 0
    assert go_on(key="one", resume=True) == FRAMES
    assert "without --resume" in refused(UsageError, go_on, key="two", resume=True)
    assert "without --resume" in refused(
        UsageError, go_on, key="one", resume=True, encoding=Encoding(crf=3)
    )
    assert go_on(key="two") == 0


def test_pieces_are_gone_after_an_error_unless_they_are_kept(tmp_path, info):
    for keep in (False, True):
        writer = SegmentWriter(tmp_path / "a.mp4", info, each=5, keep=keep)
        with pytest.raises(UsageError), writer:
            write(writer, [*UNEVEN, 0])
        assert writer.folder.exists() == keep
    assert len(writer.pieces) == 2
    assert not list(writer.folder.glob("*.part"))
