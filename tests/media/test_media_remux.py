import subprocess
from fractions import Fraction

import av
import pytest
from PIL import Image
from video_samples import (
    HEIGHT,
    UNEVEN,
    WIDTH,
    drawing,
    ffmpeg,
    make_video,
    packets,
    refused,
)

from b2v.errors import MediaError, UsageError
from b2v.media import remux
from b2v.media.remux import check_video_target, finish, verify
from b2v.media.segments import SegmentWriter
from b2v.media.video_reader import TruncatedVideoError, open_video
from b2v.media.video_writer import Encoding, choose_codec


def copy(reader, writer):
    """Write all frames; return when each is shown, in seconds."""
    times = []
    for frame in reader:
        writer.write(*frame)
        times.append(frame.pts * reader.info.time_base)
    return times


def restore(source, target, *, start=None, end=None, codec=None, **options):
    """Copy a video frame by frame; return what could not be kept."""
    encoding = Encoding(choose_codec(target, codec))
    with (
        open_video(source, start, end) as reader,
        SegmentWriter(target, reader.info, encoding, each=50) as writer,
    ):
        copy(reader, writer)
        return finish(writer, source, **options)


def times_of(path):
    with open_video(path) as reader:
        tick = reader.info.time_base
        found = [(frame.pts * tick, frame.duration * tick) for frame in reader]
    return [time for time, _ in found], sum(found[-1])


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


@pytest.fixture
def rich(tmp_path):
    """Video of uneven rate with sound, two subtitles, chapters, a title and a place."""
    tags = {"title": "A walk", "comment": "née", "location": "+48.2000+016.3000/", "camera": "X1"}
    plain = make_video(tmp_path / "plain.mp4", UNEVEN, audio="aac", last=30)
    (tmp_path / "a.srt").write_text("1\n00:00:00,100 --> 00:00:00,400\nHello\n\n")
    lines = [";FFMETADATA1", *(f"{key}={value}" for key, value in tags.items())]
    for number, name in enumerate(("Start", "End")):
        lines += ["[CHAPTER]", "TIMEBASE=1/1000", f"START={number * 200}"]
        lines += [f"END={number * 200 + 200}", f"title={name}"]
    (tmp_path / "meta.txt").write_text("\n".join(lines))
    inputs = ["-i", plain, "-i", tmp_path / "a.srt", "-i", tmp_path / "meta.txt", "-map", "0"]
    inputs += ["-map", "1", "-map_metadata", "2", "-map_chapters", "2", "-copyts"]
    inputs += ["-metadata:s:a:0", "language=deu", "-c:v", "copy", "-c:a", "copy"]
    ffmpeg(*inputs, "-c:s", "mov_text", "-movflags", "use_metadata_tags", tmp_path / "rich.mp4")
    ffmpeg(*inputs, "-c:s", "srt", tmp_path / "rich.mkv")
    return tmp_path


@pytest.mark.parametrize("source", ["rich.mp4", "rich.mkv"])
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_all_but_the_pictures_is_kept(rich, source, suffix):
    target = rich / f"out{suffix}"
    notes = restore(rich / source, target)
    times, end = times_of(rich / source)
    found, found_end = times_of(target)
    slack = Fraction(1, 1000) if "mkv" in source + suffix else 0
    assert max(abs(a - b) for a, b in zip(found, times, strict=True)) <= slack
    assert abs(found_end - end) <= 2 * slack
    (meant,), (kept,) = packets(rich / source), packets(target)
    assert [content for _, content in kept] == [content for _, content in meant]
    assert max(abs(a[0] - b[0]) for a, b in zip(kept, meant, strict=True)) <= slack
    with av.open(str(target)) as file:
        tags = {key.lower(): value for key, value in file.metadata.items()}
        assert (tags["title"], tags["comment"], tags["camera"]) == ("A walk", "née", "X1")
        assert not any("location" in key for key in tags)
        chapters = [(c["start"] * c["time_base"], c["metadata"]["title"]) for c in file.chapters()]
        assert chapters == [(0, "Start"), (Fraction(1, 5), "End")]
        language = "ger" if suffix == ".mov" else "deu"
        assert file.streams.audio[0].language == language
        (text,) = [p for p in file.demux(subtitles=0) if p.size and b"Hello" in bytes(p)]
        assert text.pts * text.time_base == Fraction(1, 10)
    assert any("GPS" in note for note in notes)
    converted = (source[-3:] == "mkv") != (suffix == ".mkv")
    assert any("converted to" in note for note in notes) == converted
    assert not [name for name in names(rich) if name.startswith(".")]


def test_the_place_is_kept_on_request(rich):
    restore(rich / "rich.mp4", rich / "out.mp4", keep_gps=True, metadata={"comment": "restored"})
    with av.open(str(rich / "out.mp4")) as file:
        assert file.metadata["location"] == "+48.2000+016.3000/"
        assert file.metadata["comment"] == "restored"


def test_what_the_file_cannot_hold_is_told(rich):
    notes = restore(rich / "rich.mkv", rich / "out.webm")
    said = "audio stream 1 (aac) cannot be kept in .webm; .mkv can hold it"
    assert f"{rich / 'out.webm'}: {said}" in notes
    assert times_of(rich / "out.webm")[0] == times_of(rich / "rich.mkv")[0]
    (text,) = packets(rich / "out.webm", "subtitle")
    assert len(text) == 1


@pytest.mark.parametrize("late", [0, 1234])
@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_sound_that_begins_late_or_early_stays_in_step(tmp_path, late, suffix):
    source = make_video(tmp_path / "a.mp4", audio="aac", late=late)
    (meant,) = packets(source)
    assert meant[0][0] == Fraction(late - 1024, 48000)  # the encoder's run-up comes before
    restore(source, tmp_path / f"out{suffix}")
    (kept,) = packets(tmp_path / f"out{suffix}")
    assert kept == meant


def test_video_that_begins_late_stays_in_step(tmp_path):
    source = make_video(tmp_path / "a.mp4", [time + 77 for time in UNEVEN], audio="aac")
    restore(source, tmp_path / "out.mp4")
    assert times_of(tmp_path / "out.mp4") == times_of(source)
    assert packets(tmp_path / "out.mp4") == packets(source)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_sound_is_cut_with_the_pictures(tmp_path, suffix):
    times = [20 * number for number in range(150)]
    source = make_video(tmp_path / "a.mp4", times, audio="aac", options={"g": "30"})
    restore(source, tmp_path / f"out{suffix}", start=2.5, end=4)
    found, end = times_of(tmp_path / f"out{suffix}")
    assert (len(found), found[0]) == (45, 0)
    assert abs(end - Fraction(3, 2)) <= Fraction(2, 1000)
    slack = Fraction(1, 48000) if suffix == ".mp4" else Fraction(1, 1000)
    (whole,), (kept,) = packets(source), packets(tmp_path / f"out{suffix}")
    meant = [(time - Fraction(5, 2), c) for time, c in whole if 2.5 <= time < 4]
    assert [content for _, content in kept] == [content for _, content in meant]
    assert max(abs(a[0] - b[0]) for a, b in zip(kept, meant, strict=True)) <= slack


def test_turned_video_becomes_upright_without_a_turn(tmp_path):
    source = make_video(tmp_path / "a.mp4", turn=(-90,))
    restore(source, tmp_path / "out.mp4")
    with open_video(tmp_path / "out.mp4") as reader:
        assert (reader.info.width, reader.info.height) == (HEIGHT, WIDTH)
        assert reader.info.turn.degrees == 0
        pixels = next(iter(reader)).pixels
    assert (pixels - drawing(0).rot90(-1, (1, 2))).abs().max() < 0.06


def test_a_cover_is_kept_where_it_can_be(tmp_path):
    Image.new("RGB", (60, 60), "red").save(tmp_path / "cover.jpg")
    plain = make_video(tmp_path / "plain.mp4")
    with_cover = ["-map", 0, "-map", 1, "-c", "copy", "-disposition:v:1", "attached_pic"]
    source = tmp_path / "a.mp4"
    ffmpeg("-i", plain, "-i", tmp_path / "cover.jpg", *with_cover, source)
    assert restore(source, tmp_path / "out.mp4") == []
    with open_video(tmp_path / "out.mp4") as reader:
        assert [stream.cover for stream in reader.info.streams] == [False, True]
    assert "video stream 1 (mjpeg) cannot be kept" in restore(source, tmp_path / "out.mov")[0]


def test_hevc_and_raw_sound_are_written_as_players_take_them(tmp_path):
    source = make_video(tmp_path / "a.mov", audio="pcm_s16le")
    assert restore(source, tmp_path / "out.mov", codec="hevc") == []
    with av.open(str(tmp_path / "out.mov")) as file:
        assert file.streams.video[0].codec_tag == "hvc1"
        assert file.streams.audio[0].codec_context.name == "pcm_s16le"


def test_a_source_that_breaks_off_can_be_restored_as_far_as_it_goes(tmp_path):
    times = [20 * number for number in range(90)]
    whole = make_video(tmp_path / "a.mp4", times, audio="aac")
    ffmpeg("-i", whole, "-c", "copy", "-movflags", "+faststart", tmp_path / "b.mp4")
    data = (tmp_path / "b.mp4").read_bytes()
    (tmp_path / "b.mp4").write_bytes(data[: len(data) * 7 // 10])
    target = tmp_path / "out.mp4"
    with open_video(tmp_path / "b.mp4") as reader, SegmentWriter(target, reader.info) as writer:
        with pytest.raises(TruncatedVideoError):
            copy(reader, writer)
        finish(writer, tmp_path / "b.mp4")
        count = reader.count
    assert 30 < len(times_of(target)[0]) == count < 90


def test_nothing_is_left_where_ffmpeg_fails(tmp_path, monkeypatch):
    source = make_video(tmp_path / "a.mp4")
    with open_video(source) as reader, SegmentWriter(tmp_path / "out.mp4", reader.info) as writer:
        copy(reader, writer)
        message = refused(MediaError, finish, writer, tmp_path / "missing.mp4")
        assert "FFmpeg could not put the video together" in message
        assert "No such file" in message
        monkeypatch.setattr(remux, "verify", lambda *_: ["11 frames instead of 12"])
        assert "11 frames instead of 12" in refused(MediaError, finish, writer, source)
    assert names(tmp_path) == [".out.mp4.b2v", "a.mp4"]


def test_reopening_finds_what_differs(tmp_path):
    path = make_video(tmp_path / "a.mp4", UNEVEN, audio="aac")
    with open_video(path) as reader:
        info = reader.info
        frames = list(reader)
    times, end = [frame.pts for frame in frames], frames[-1].pts + frames[-1].duration
    audio = info.of_kind("audio")
    assert verify(path, info, times, end, audio) == []
    assert verify(path, info, times, end) == [
        "streams beside the video are ['audio'] instead of []"
    ]
    (said,) = verify(path, info, [*times[:5], times[5] - 416, *times[6:]], end, audio)
    assert said == "frame 6 comes +21.667 ms late"
    assert verify(path, info, times[:-1], end, audio) == ["12 frames instead of 11"]
    assert "it ends at" in verify(path, info, times, end + 3, audio)[0]
    make_video(tmp_path / "b.mp4", UNEVEN, audio="aac", size=(48, 64))
    assert "48x64" in verify(tmp_path / "b.mp4", info, times, end, audio)[0]
    (tmp_path / "b.mp4").write_bytes(path.read_bytes()[:3000])
    assert "cannot be read again" in verify(tmp_path / "b.mp4", info, times, end)[0]


def test_targets_are_checked_before_any_work(tmp_path, monkeypatch):
    source = make_video(tmp_path / "a.mp4")
    (tmp_path / "link.mp4").symlink_to(source)
    (tmp_path / "folder.mp4").mkdir()
    assert check_video_target(tmp_path / "b.mkv", inputs=[source]) == tmp_path / "b.mkv"
    for name in ("a.mp4", "link.mp4"):
        target = tmp_path / name
        said = refused(UsageError, check_video_target, target, overwrite=True, inputs=[source])
        assert "is the input" in said
    for name, said in (
        ("a.mp4", "--overwrite"),
        ("folder.mp4", "is a folder"),
        ("b.avi", "videos are written as .mp4, .mov, .mkv, .webm"),
        ("x" * 250 + ".mp4", "not a name for an output"),
    ):
        assert said in refused(UsageError, check_video_target, tmp_path / name)
    for name in ("none/b.mp4", "a.mp4/b.mp4"):
        assert "output folder" in refused(MediaError, check_video_target, tmp_path / name)
    monkeypatch.setattr("os.access", lambda *_: False)
    assert "no permission" in refused(MediaError, check_video_target, tmp_path / "b.mp4")


@pytest.mark.parametrize("program", ["missing", "broken"])
def test_the_program_is_looked_for_before_any_work(tmp_path, monkeypatch, program):
    (tmp_path / "broken").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "broken").chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / program))
    said = refused(MediaError, check_video_target, tmp_path / "out.mp4")
    assert f"FFmpeg's program, {tmp_path / program}, does not run" in said


REAL = [
    ("gopro-with-audio.mp4", 315, (848, 480)),
    ("phone-portrait-hevc.mov", 41, (1080, 1920)),
    ("dog.mp4", 60, (854, 480)),
    ("motocross-jump.mp4", 40, (854, 480)),
]


@pytest.mark.parametrize(("name", "count", "size"), REAL)
def test_real_videos_keep_all_but_the_pictures(tmp_path, shared, name, count, size):
    source = shared / "data" / "real-blur" / name
    if not source.exists():
        pytest.skip(f"no video: {source} is not there")
    target = tmp_path / f"out{source.suffix}"
    with open_video(source) as reader:
        encoding = Encoding(crf=30, live=True)  # quickly; the pictures are not looked at
        with SegmentWriter(target, reader.info, encoding) as writer:
            meant = copy(reader, writer)
            finish(writer, source)
    (found,) = packets(target, "video")
    assert [time for time, _ in found] == meant
    assert len(found) == count
    assert packets(target) == packets(source)
    with open_video(target) as reader, open_video(source) as original:
        assert (reader.info.width, reader.info.height) == size
        assert reader.info.turn.degrees == 0
        assert reader.info.duration == original.info.duration
        difference = next(iter(reader)).pixels - next(iter(original)).pixels
    assert difference.square().mean().sqrt() < 0.04
    assert names(tmp_path) == [target.name]


def streams_of(path):
    with open_video(path) as reader:
        return reader.info.streams


def with_flags(folder, *flags):
    """Make a Matroska with sound and subtitles in pairs, which have these flags."""
    plain = make_video(folder / "plain.mp4", audio="aac")
    (folder / "a.srt").write_text("1\n00:00:00,100 --> 00:00:00,400\nHello\n\n")
    maps = ["-map", "0:v", *["-map", "0:a"] * 2, *["-map", "1"] * 2]
    places = ("v:0", "a:0", "a:1", "s:0", "s:1")
    said = [
        word
        for pair in zip(places, flags, strict=True)
        for word in (f"-disposition:{pair[0]}", pair[1])
    ]
    codecs = ["-c:v", "copy", "-c:a", "copy", "-c:s", "srt"]
    ffmpeg("-i", plain, "-i", folder / "a.srt", *maps, *codecs, *said, folder / "a.mkv")
    return folder / "a.mkv"


FLAGS = (
    ("0", "comment", "0", "0", "forced"),
    ("default", "0", "default", "forced", "0"),
    ("default", "original", "default+visual_impaired", "hearing_impaired", "default"),
)


@pytest.mark.parametrize("flags", FLAGS)
def test_flags_of_tracks_stay_as_they_are(tmp_path, flags):
    source = with_flags(tmp_path, *flags)
    assert ["+".join(stream.flags) or "0" for stream in streams_of(source)] == list(flags)
    assert restore(source, tmp_path / "out.mkv") == []
    assert [s.flags for s in streams_of(tmp_path / "out.mkv")] == [
        s.flags for s in streams_of(source)
    ]
    notes = restore(source, tmp_path / "out.mp4")
    marked = [s.flags for s in streams_of(tmp_path / "out.mp4") if s.kind == "audio"]
    commentary = "comment" in flags
    assert ("default" in marked[0]) == (commentary or "default" not in flags[2])
    assert all("converted" in note or "has other flags" in note for note in notes)


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_a_cover_attached_to_matroska_stays_one(tmp_path, kind):
    cover, source = tmp_path / f"front.{kind}", tmp_path / "a.mkv"
    Image.new("RGB", (60, 60), "red").save(cover)
    (tmp_path / "a.ttf").write_bytes(b"a font")
    plain = make_video(tmp_path / "plain.mp4", audio="aac")
    mime = f"mimetype=image/{kind.replace('jpg', 'jpeg')}"
    attached = ["-attach", tmp_path / "a.ttf", "-metadata:s:t:0", "mimetype=font/ttf"]
    attached += ["-attach", cover, "-metadata:s:t:1", mime, "-metadata:s:t:1", "filename=front"]
    ffmpeg("-i", plain, "-c", "copy", *attached, source)
    restore(source, tmp_path / "out.mkv")
    meant, found = streams_of(source), streams_of(tmp_path / "out.mkv")
    assert [(s.kind, s.codec, s.cover) for s in found] == [
        (s.kind, s.codec, s.cover) for s in meant
    ]
    assert found[-1].cover
    assert found[-1].tags["filename"] == "front"
    with av.open(str(tmp_path / "out.mkv")) as file:
        packet = next(p for p in file.demux(file.streams[len(found) - 1]) if p.size)
        assert bytes(packet) == cover.read_bytes()
    assert restore(source, tmp_path / "out.mp4")[0].endswith(
        "(unknown) cannot be kept in .mp4; .mkv can hold it"
    )
    assert streams_of(tmp_path / "out.mp4")[-1].cover


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_the_place_is_left_out_of_the_streams_as_well(tmp_path, suffix):
    plain = make_video(tmp_path / "plain.mp4", audio="aac")
    said = ["-metadata:s:a:0", "LOCATION=+48.1+011.5/", "-metadata:s:a:0", "GPSLatitude=48"]
    said += ["-metadata:s:a:0", "title=Wind", "-metadata:s:v:0", "com.apple.xyz=48"]
    ffmpeg("-i", plain, "-c", "copy", *said, tmp_path / "a.mkv")
    notes = restore(tmp_path / "a.mkv", tmp_path / f"out{suffix}")
    found = streams_of(tmp_path / f"out{suffix}")
    assert not [
        key for s in found for key in s.tags if "loc" in key or "gps" in key or "xyz" in key
    ]
    assert any("GPS" in note for note in notes)
    if suffix == ".mkv":
        assert found[1].tags["title"] == "Wind"
        restore(tmp_path / "a.mkv", tmp_path / "all.mkv", keep_gps=True)
        assert streams_of(tmp_path / "all.mkv")[1].tags["location"] == "+48.1+011.5/"


def damaged_sound(folder, *, told):
    """Make a TS one of whose packets of sound has no header of AAC; `told` in its packets too."""
    plain = make_video(folder / "plain.mp4", [20 * n for n in range(60)], audio="aac")
    ffmpeg("-i", plain, "-c", "copy", folder / "a.ts")
    data = bytearray((folder / "a.ts").read_bytes())
    headers = [
        at
        for at in range(len(data))
        if data[at : at + 3] == b"\xff\xf1\x4c" or data[at : at + 3] == b"\xff\xf1\x50"
    ]
    at = headers[len(headers) // 2]
    data[at : at + 8] = bytes(range(100, 108))
    if told:  # the flag of an error in transport
        data[at // 188 * 188 + 1] |= 0x80
    (folder / "a.ts").write_bytes(data)
    return folder / "a.ts"


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_damaged_packet_of_sound_does_not_cost_the_pictures(tmp_path, suffix, told):
    source = damaged_sound(tmp_path, told=told)
    notes = restore(source, tmp_path / f"out{suffix}")
    assert len(times_of(tmp_path / f"out{suffix}")[0]) == 60
    assert any("damaged" in note or "other packets" in note for note in notes)


def test_of_two_tracks_only_the_damaged_one_is_left_out(tmp_path):
    damaged_sound(tmp_path, told=False)
    with_other = ["-map", 0, "-map", "1:a", "-c", "copy", "-bsf:a:0", "noise=drop=0"]
    source = tmp_path / "b.ts"
    make_video(tmp_path / "other.mkv", [20 * n for n in range(60)], audio="mp2")
    ffmpeg("-i", tmp_path / "plain.mp4", "-i", tmp_path / "other.mkv", *with_other[:6], source)
    data = bytearray(source.read_bytes())
    at = [n for n in range(len(data)) if data[n : n + 3] == b"\xff\xf1\x4c"][20]
    data[at : at + 8] = bytes(range(100, 108))
    source.write_bytes(data)
    restore(source, tmp_path / "out.mkv")
    kinds = [s.codec for s in streams_of(tmp_path / "out.mkv") if s.kind == "audio"]
    assert "mp2" in kinds


def test_the_source_is_read_as_what_it_was_and_nothing_else(tmp_path, monkeypatch):
    """A playlist in front of a TS would make FFmpeg read other files."""
    plain = make_video(tmp_path / "plain.mp4", audio="aac")
    ffmpeg("-i", plain, "-c", "copy", tmp_path / "a.ts")
    ran, real = [], subprocess.run
    monkeypatch.setattr(
        subprocess, "run", lambda words, **how: ran.append(words) or real(words, **how)
    )
    restore(tmp_path / "a.ts", tmp_path / "out.mkv")
    (words,) = ran
    end = words.index(f"file:{tmp_path / 'a.ts'}")
    for option, value in (
        ("-f", "mpegts"),
        ("-format_whitelist", "mpegts"),
        ("-protocol_whitelist", "file"),
    ):
        assert words[words.index(option) + 1] == value
        assert words.index(option) < end
