"""Damaged pictures and videos through the real readers: one line each, soon, in little memory.

Files of all kinds are cut, flipped, zeroed, spliced and mixed at random places, always the same
ones. A process of its own reads them, so that a crash of a decoder is seen as well.
"""

import io
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, features
from test_media_photo import smooth_codes
from video_samples import make_video

REPOSITORY = Path(__file__).parents[1]
SOON = 30
"""Seconds for one file."""
MEMORY = 2 * 2**30
"""Bytes that the process may have held at most, the libraries included."""
READER = """
import faulthandler, sys
from pathlib import Path

import torch

from b2v.inference.runtime import peak_bytes
from b2v.errors import B2VError
from b2v.media.images import read_photo
from b2v.media.video_reader import open_video

def read(path):
    if path.name.startswith("video"):
        with open_video(path) as reader:
            for frame in reader:
                assert frame.pixels.isfinite().all()
    else:
        photo = read_photo(path)
        assert photo.pixels.isfinite().all()
        assert 0 <= photo.pixels.min() and photo.pixels.max() <= 1

for path in sorted(Path(sys.argv[1]).iterdir()):
    faulthandler.dump_traceback_later(int(sys.argv[2]), exit=True)
    said = "whole"
    try:
        read(path)
    except B2VError as error:
        said = "refused" if str(error).count("\\n") == 0 and path.name in str(error) else "BAD"
    print(path.name, said, flush=True)
    faulthandler.cancel_dump_traceback_later()
print("peak", peak_bytes(torch.device("cpu")))
"""


def pictures():
    """Bytes of small pictures of all kinds, by a name that ends as their file would."""
    color = Image.fromarray(smooth_codes())
    exif = Image.Exif()
    exif[0x112] = 6
    found = {}

    def save(name, image, **options):
        file = io.BytesIO()
        image.save(file, **options)
        found[name] = file.getvalue()

    save("plain.jpg", color, format="JPEG", exif=exif.tobytes())
    save("progressive.jpg", color, format="JPEG", progressive=True, quality=60)
    save("cmyk.jpg", color.convert("CMYK"), format="JPEG")
    save("plain.png", color, format="PNG")
    save("palette.png", color.quantize(16), format="PNG", transparency=1)
    save("alpha.png", color.convert("RGBA"), format="PNG")
    save("deep.png", Image.fromarray(smooth_codes()[..., 0].astype(np.uint16) * 200), format="PNG")
    save("lossy.webp", color, format="WEBP")
    save("lossless.webp", color, format="WEBP", lossless=True)
    save("moving.webp", color, format="WEBP", save_all=True, append_images=[color.rotate(90)])
    save("plain.tif", color, format="TIFF")
    save("packed.tif", color, format="TIFF", compression="tiff_lzw")
    save("pages.tif", color, format="TIFF", save_all=True, append_images=[color.convert("L")])
    save("plain.bmp", color, format="BMP")
    save("moving.gif", color, format="GIF", save_all=True, append_images=[color.rotate(90)])
    for name, kind, most in (("sixteen.tif", np.uint16, 65535), ("float.tif", np.float32, 1)):
        file, values = io.BytesIO(), smooth_codes() / 255 * most
        tifffile.imwrite(file, values.astype(kind), photometric="rgb", tile=(16, 16))
        found[name] = file.getvalue()
    if features.check("avif"):
        save("plain.avif", color, format="AVIF")
    return found


def videos(folder):
    """Bytes of small videos of several kinds."""
    kinds = {
        "h264.mp4": {"audio": "aac"},
        "hevc.mov": {"codec": "libx265", "options": {"x265-params": "log-level=0"}},
        "h264.mkv": {},
        "vp9.webm": {"codec": "libvpx-vp9"},
        "mjpeg.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p", "full": True, "tags": (2, 2, 2)},
        "h264.ts": {"container": "mpegts"},
    }
    found = {}
    for name, options in kinds.items():
        make_video(folder / name, [20 * number for number in range(8)], **options)
        found[name] = (folder / name).read_bytes()
    return found


def damaged(content, chance, other):
    """Damage the bytes of a file in one of several ways."""
    data, size = bytearray(content), len(content)
    way, place = chance.randrange(8), chance.randrange(size)
    if way == 0:
        return bytes(data[:place])
    if way == 1:  # near the start, where sizes and counts are
        place = chance.randrange(min(size, 400))
        data[place] ^= 1 << chance.randrange(8)
    elif way == 2:
        for _ in range(chance.choice((1, 3, 10, 100))):
            data[chance.randrange(size)] ^= 1 << chance.randrange(8)
    elif way == 3:
        data[place : place + chance.choice((4, 64, 1024))] = bytes(chance.choice((4, 64, 1024)))
    elif way == 4:
        data[place : place + 4] = chance.choice((b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\1"))
    elif way == 5:
        del data[place : place + chance.randrange(1, 200)]
    elif way == 6:
        data[place:place] = chance.randbytes(chance.randrange(1, 200))
    else:
        data[place:] = other[chance.randrange(len(other)) :]
    return bytes(data)


def read_apart(folder, *, limit):
    """Have a process read all of a folder; return what it said of each file, and its peak."""
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", "-c", READER, str(folder), str(SOON)]
    ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=limit)
    lines = [line.rsplit(" ", 1) for line in ran.stdout.splitlines()]
    told = ran.stderr[-3000:] if ran.returncode or "Traceback" in ran.stderr else ""
    assert not told, f"after {lines[-1:]}: {told}"
    return dict(lines[:-1]), int(lines[-1][1])


def write_files(folder, count, seed):
    """Write whole files of all kinds, and `count` damaged ones; say how many are whole.

    There are more pictures than videos, which take longer to read.
    """
    chance = random.Random(seed)
    (folder / "made").mkdir()
    (folder / "files").mkdir()
    stills, films = pictures(), videos(folder / "made")
    for kind, wholes in (("photo", stills), ("video", films)):
        for name, content in wholes.items():
            (folder / "files" / f"{kind}-whole-{name}").write_bytes(content)
    for number in range(count):
        kind, wholes = ("video", films) if number % 3 == 0 else ("photo", stills)
        name = list(wholes)[(number // 3 if kind == "video" else number) % len(wholes)]
        content = damaged(wholes[name], chance, wholes[chance.choice(list(wholes))])
        (folder / "files" / f"{kind}{number:04d}-{name}").write_bytes(content)
    return len(stills) + len(films)


def check_all(folder, count, seed, limit):
    whole = write_files(folder, count, seed)
    said, peak = read_apart(folder / "files", limit=limit)
    assert len(said) == count + whole
    assert [name for name, how in said.items() if "-whole-" in name and how != "whole"] == []
    assert [name for name, how in said.items() if how == "BAD"] == []
    assert sum(how == "refused" for how in said.values()) > count / 5
    assert sum(how == "whole" for how in said.values()) > whole + count / 20  # not all is seen
    assert peak < MEMORY


def test_whole_files_are_read_and_damaged_ones_read_or_refused_in_a_line(tmp_path):
    check_all(tmp_path, 60, seed=1, limit=120)


@pytest.mark.long
@pytest.mark.parametrize("seed", [2, 3, 4])
def test_hundreds_of_damaged_files_are_read_or_refused_in_a_line(tmp_path, seed):
    check_all(tmp_path, 200, seed, limit=580)
