import signal
import subprocess
import textwrap
import threading
from fractions import Fraction

import av
import pytest
from imageio_ffmpeg import get_ffmpeg_exe
from video_samples import EVEN, FRAMES, HEIGHT, TICK, UNEVEN, WIDTH, drawing, make_video, refused

from b2v.errors import MediaError, UsageError
from b2v.media.video_reader import open_video
from b2v.media.video_writer import PipeClosedError, live_writer

PASS = textwrap.dedent("""
    import sys
    from b2v.media.video_reader import open_video
    from b2v.media.video_writer import live_writer
    with open_video("-") as reader, live_writer(reader.info) as writer:
        for frame in reader:
            writer.write(*frame)
            print(frame.pts, file=sys.stderr, flush=True)
""")


class Memory:
    name = "-"

    def __init__(self, room=10**9):
        self.parts, self.room = [], room

    def write(self, data):
        if sum(map(len, self.parts)) + len(data) > self.room:
            raise BrokenPipeError
        self.parts.append(bytes(data))
        return len(data)


@pytest.fixture
def start(driver, tmp_path):
    """`start()` starts a process that reads a video from standard input, and writes it."""
    driver.folder = tmp_path
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return lambda: driver.start(script=PASS, **pipes)


@pytest.fixture
def passed_on(start):
    """`passed_on(data)` feeds data through such a process; what it writes, and what it says."""

    def run(data):
        with start() as process:
            said = process.communicate(data)
            assert process.returncode == 0
        return said

    return run


def read(path):
    with open_video(path) as reader:
        return [(frame.pts * reader.info.time_base, frame.pixels) for frame in reader]


@pytest.mark.parametrize("source", ["matroska", "yuv4mpegpipe"])
def test_a_video_goes_through_pipes(passed_on, tmp_path, source):
    path = make_video(tmp_path / "a.mkv", EVEN, matrix=5, tags=(6, 6, 6))
    raw = ["-f", source, "-pix_fmt", "yuv420p", "-"]
    raw = ["-c", "copy", *raw] if source == "matroska" else raw
    command = [get_ffmpeg_exe(), "-v", "error", "-i", str(path), *raw]
    data = subprocess.run(command, capture_output=True, check=True).stdout
    out = tmp_path / "out"
    out.write_bytes(passed_on(data)[0])
    frames = read(out)
    assert len(frames) == FRAMES
    for number, (time, pixels) in enumerate(frames):
        assert abs(time - EVEN[number] * TICK) <= Fraction(1, 1000)
        assert pixels.shape == (3, HEIGHT, WIDTH)
        assert (pixels - drawing(number)).abs().max() < 20 / 255


def test_uneven_times_go_through_matroska(passed_on, tmp_path):
    path = make_video(tmp_path / "a.mkv", UNEVEN)
    (tmp_path / "out.mkv").write_bytes(passed_on(path.read_bytes())[0])
    assert [time for time, _ in read(tmp_path / "out.mkv")] == [time for time, _ in read(path)]


def test_frames_come_out_before_the_end_goes_in(start, tmp_path):
    times = [20 * number for number in range(120)]
    path = make_video(tmp_path / "a.mkv", times, options={"bf": "0"})
    data = path.read_bytes()
    with start() as process:
        came = []
        late = threading.Timer(60, process.send_signal, [signal.SIGKILL])
        take = threading.Thread(target=lambda: came.extend(iter(lambda: out(10**6), b"")))
        out = process.stdout.read1
        late.start()
        take.start()
        process.stdin.write(data[: len(data) // 2])
        process.stdin.flush()
        for _ in range(30):
            assert process.stderr.readline()
        early = b"".join(came)
        process.stdin.write(data[len(data) // 2 :])
        process.stdin.close()
        process.stderr.read()
        take.join()
        late.cancel()
        assert process.wait() == 0
    (tmp_path / "early").write_bytes(early)
    (tmp_path / "all").write_bytes(b"".join(came))
    with av.open(str(tmp_path / "early")) as file:
        assert sum(bool(packet.size) for packet in file.demux(video=0)) >= 20
    assert len(read(tmp_path / "all")) == 120


def test_a_reader_that_goes_away_is_told_in_one_line(tmp_path):
    path = make_video(tmp_path / "a.mp4", EVEN)

    def write():
        with open_video(path) as reader, live_writer(reader.info, sink=Memory(4700)) as out:
            for frame in reader:
                out.write(*frame)

    message = refused(PipeClosedError, write)
    assert message.startswith("-: output pipe closed after ")
    assert not message.endswith(" 0 frames")


@pytest.mark.parametrize("data", [b"", b"Dear diary, " * 100])
def test_a_pipe_without_video_is_refused(start, data):
    with start() as process:
        _, said = process.communicate(data)
    assert b"MediaError: -: " in said.splitlines()[-1]


def test_a_pipe_that_breaks_off_ends_with_what_came(passed_on, tmp_path):
    times = [20 * number for number in range(60)]
    data = make_video(tmp_path / "a.mkv", times, options={"bf": "0"}).read_bytes()
    _, said = passed_on(data[: len(data) // 2])
    assert 10 < len(said.splitlines()) < 60


def test_terminals_are_refused(tmp_path, monkeypatch):
    with open_video(make_video(tmp_path / "a.mp4")) as reader:
        info = reader.info
    monkeypatch.setattr("sys.stdout", type("Terminal", (), {"isatty": lambda _: True})())
    assert "is the terminal" in refused(UsageError, live_writer, info)
    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": lambda _: True})())
    assert "is the terminal" in refused(UsageError, open_video, "-")
    assert issubclass(PipeClosedError, MediaError)
