"""What is written of a photo's seven frames: a clip or one picture, comparison, filmstrip, page."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from b2v.cli import options
from b2v.cli.options import Result
from b2v.defaults import FPS, FRAMES
from b2v.errors import UsageError
from b2v.files import CONTAINERS, STILLS, names_folder

if TYPE_CHECKING:
    from torch import Tensor

    from b2v.cli.options import Result
    from b2v.html_page import Scene
    from b2v.inference.images import Model
    from b2v.media.images import Photo
    from b2v.media.metadata import Tags


PICTURES, PAGES = (".png", ".jpg", ".jpeg", ".webp"), (".html", ".htm")
BESIDE = {
    "filmstrip": ("_strip.png", PICTURES),
    "html": (".html", PAGES),
    "heat": ("_heat.png", PICTURES),
}
"""What can be written beside an output: the end of its name in a folder, and its suffixes."""


@dataclass(frozen=True, kw_only=True)
class Showing:
    """The extra files to write; for `several` inputs they go into folders."""

    compare: Annotated[
        Literal["side", "stack"] | None,
        options.in_output(help="Show the blurry picture beside or above the restored one."),
    ] = None
    filmstrip: Annotated[
        Path | None, options.in_extras(metavar="PICTURE", help="The frames in a row, blurry first.")
    ] = None
    html: Annotated[
        Path | None,
        options.in_extras(metavar="PAGE", help="A page to compare them in the browser, offline."),
    ] = None
    strip_metadata: Annotated[
        bool,
        options.in_output("--strip-metadata", help="Write no metadata on model, camera or date."),
    ] = False
    keep_gps: Annotated[
        bool, options.in_output("--keep-gps", help="Keep the place of recording.")
    ] = False
    heat: Path | None = None
    several: bool = False

    def __post_init__(self) -> None:
        if self.strip_metadata and self.keep_gps:
            raise UsageError("--strip-metadata and --keep-gps are mutually exclusive; use one")
        for path in (self.filmstrip, self.html, self.heat) if self.several else ():
            if path is not None and path.suffix.lower() in (*PICTURES, *PAGES):
                raise UsageError(f"{path}: one file for several inputs; name a folder")

    def place(self, what: str, output: str) -> Path | None:
        """Name the file that one of `BESIDE` goes to, if it is wanted."""
        wanted: Path | None = getattr(self, what)
        if wanted is None or not self.several:
            return wanted
        return wanted / f"{Path(output).stem}{BESIDE[what][0]}"

    def check(self, results: Sequence["Result"], *, overwrite: bool) -> None:
        """Check before any work what cannot be written, and note it in its result."""
        from b2v.files import check_parent
        from b2v.media.images import check_file

        taken: set[Path] = set()
        for result in options.left(results):
            with options.noting(result):
                taken.add(Path(result.output).absolute())
                for what, (_, suffixes) in BESIDE.items():
                    if (path := self.place(what, result.output)) is None:
                        continue
                    if path.absolute() in taken:
                        why = "two outputs would both be written there; rename one"
                        raise UsageError(f"{path}: {why}")
                    taken.add(path.absolute())
                    if self.several and not path.parent.is_dir():
                        check_parent(path.parent)
                    else:
                        check_file(path, suffixes, overwrite=overwrite, inputs=[result.input])

    def tags_for(self, source: str | None, model: "Model", *, strength: float = 1.0) -> "Tags":
        """Collect the metadata that the files of one input get."""
        from b2v.media.images import tags_of
        from b2v.media.metadata import Tags

        if self.strip_metadata:
            return Tags()
        found = Tags() if source is None else tags_of(source, keep_gps=self.keep_gps)
        return found.made_by(replace(model.provenance, strength=strength))


@dataclass(frozen=True, kw_only=True)
class PhotoShowing(Showing):
    """The extra files to write for photos."""

    heat: Annotated[
        Path | None,
        options.in_extras(
            "--reblur",
            metavar="PICTURE",
            help="A map of where the frames reproduce the photo (gray) and where not (yellow).",
        ),
    ] = None


MAX_VIDEO_LOOPS = 20
"""A video cannot say how often it is to be played, so it holds its frames as often."""
Order = Literal["forward", "reverse", "boomerang"]
"""Direction of time, which a blurry photo does not tell."""
Format = Literal["mp4", "mov", "mkv", "webm", "gif", "webp", "png", "tiff", "jpg", "avif"]
"""Kinds of clip, of which PNG and TIFF are folders of pictures, and of one picture."""


@dataclass
class PhotoResult(Result):
    """What came of a photo; `size` is its width and height."""

    size: list[int] = field(default_factory=list)
    reblur_db: float | None = None
    exposure: dict[str, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Play:
    """How a clip is played."""

    fps: Annotated[float, options.in_output(help="Frames per second.", min=0.1, max=240)] = FPS
    order: Annotated[Order, options.in_output(help="Direction of time.")] = "forward"
    loop: Annotated[
        int,
        options.in_output(
            help="Times to play; 0: GIF and WebP forever, video once.", min=0, max=65535
        ),
    ] = 0
    frames: Annotated[
        int,
        options.in_output(
            callback=options.check_count,
            help="5, 7, 9, 11 or 13; more than 7 reach beyond the exposure.",
        ),
    ] = FRAMES
    codec: options.Coding = None


@dataclass(frozen=True, kw_only=True)
class Job:
    """The request, the same for every input; `folder` is made for the outputs.

    `stills` are the pictures of a folder of frames; `still` is one picture instead of a clip.
    """

    play: Play = field(default_factory=Play)
    showing: Showing = field(default_factory=Showing)
    handling: options.BatchOptions = field(default_factory=options.BatchOptions)
    folder: Path | None = None
    middle: "Tensor | None" = None
    max_memory: float | None = None
    stills: str = "png"
    still: bool = False
    strength: float = 1.0
    preview: int | None = None
    verbose: bool = False


def is_video(result: PhotoResult) -> bool:
    """Tell whether the clip is played as video, not as an animated picture or a folder."""
    return Path(result.output).suffix.lower() in CONTAINERS


def show(result: PhotoResult, handling: options.BatchOptions, *, verbose: bool = False) -> None:
    """Print what came of a photo; `verbose` tells by what."""
    said, one = "", result.frames == 1
    if result.model and result.frames:
        size, what = "x".join(map(str, result.size)), f"{result.frames} frames"
        said = f"{result.input}: {'one picture' if one else what} of {size}"
        said += f" in {result.seconds:.1f} s"
        if verbose:
            said += (
                f" ({result.device} {result.precision}, {result.model['name']}); "
                f"{'seven frames' if one else 'they'} reproduce the photo to "
                f"{result.reblur_db:.1f} dB"
            )
    options.show(result, handling, said)


WHOLE = 0.4
"""Seconds from which on an exposure time is not told as a fraction."""
GUESS = "The direction of time is ambiguous in a blurry photo; b2v picks one."


def write(
    frames: "Tensor", photo: "Photo", blurry: "Tensor", tags: "Tags", job: Job, result: PhotoResult
) -> None:
    """Write all that is asked for of the `frames` of one photo, seven or more.

    `blurry` is the photo on white; `tags` are what the files are to say of themselves.
    """
    import torch

    from b2v.frames import inner
    from b2v.media.clips import Clip
    from b2v.media.drawing import beside
    from b2v.media.images import lost_in, write_photo

    path, play, alpha, bits = result.output, job.play, photo.alpha, photo.bits
    if job.folder is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    if job.still:
        made = inner(frames, 1)
        how = {"overwrite": job.handling.overwrite, "at_best": True}
        write_photo(made[0], path, alpha=alpha, bits=bits, tags=tags, **how)
    else:
        made = inner(frames, play.frames)
        if play.order == "reverse":
            made = made.flip(0)
        elif play.order == "boomerang":  # of seven frames, it has twelve
            made = torch.cat([made, made[1:-1].flip(0)])
        if is_video(result) and play.loop > 1:
            made = made.repeat(play.loop, 1, 1, 1)
        if job.showing.compare is not None:
            made, alpha = beside(blurry, made, job.showing.compare), None
        Clip(made, play.fps, tags, alpha, bits).save(
            path,
            overwrite=job.handling.overwrite,
            loop=play.loop,
            codec=play.codec,
            stills=job.stills,
        )
    result.lost += [f"{path}: {lost}" for lost in lost_in(path, photo.alpha, bits)]
    result.frames, result.size = len(made), [made.shape[3], made.shape[2]]
    _write_extras(frames.flip(0) if play.order == "reverse" else frames, blurry, tags, job, result)


def _write_extras(
    frames: "Tensor", blurry: "Tensor", tags: "Tags", job: Job, result: PhotoResult
) -> None:
    """Write what is wanted beside the clip of `frames`, seven or more in the order of the clip."""
    from b2v.frames import inner
    from b2v.html_page import write_page
    from b2v.media.drawing import heat_map, strip
    from b2v.media.images import write_photo

    showing, sheets, kept = job.showing, [], inner(frames, job.play.frames)
    if path := showing.place("filmstrip", result.output):
        names = [f"frame {number}" for number in range(1, len(kept) + 1)]
        sheets.append((path, strip([[blurry, *kept]], [["blurry", *names]])))
    if path := showing.place("heat", result.output):
        sheets.append((path, heat_map(inner(frames), blurry)))
    for path, sheet in sheets:
        path.parent.mkdir(exist_ok=True)
        write_photo(sheet, path, overwrite=job.handling.overwrite, tags=tags)
    if path := showing.place("html", result.output):
        path.parent.mkdir(exist_ok=True)
        scene = scene_of(frames, blurry, result, played=job.play.fps, count=job.play.frames)
        name = Path(result.input).name
        write_page(path, name, [scene], notes_on([tags]), overwrite=job.handling.overwrite)


def note_on_photo(photo: "Photo", result: PhotoResult, job: Job) -> None:
    """Note in `result` how many pages the photo has, and its exposure time."""
    result.lost += [f"{result.input}: {note}" for note in photo.notes]
    if photo.pages > 1:
        result.notes.append(f"{result.input}: has {photo.pages} pictures; only the first is used")
    if photo.exposure_time is not None:
        result.exposure = timing(photo.exposure_time, job.play.fps)
        if not job.still:  # one picture is not played
            result.notes.append(f"{result.input}: {', '.join(told(result.exposure))}")


def timing(seconds: float, played: float) -> dict[str, float]:
    """Compute the real rate of seven frames of an exposure, and how much slower they play."""
    fps = FRAMES / seconds
    return {"seconds": round(seconds, 6), "fps": round(fps, 6), "slower": round(fps / played, 6)}


def told(exposure: dict[str, float]) -> list[str]:
    """Describe the same for people; short exposures as cameras do: 1/15 s."""
    seconds, slower = exposure["seconds"], exposure["slower"]
    time = f"1/{max(1, round(1 / seconds))}" if seconds < WHOLE else f"{seconds:.3g}"
    pace = f"{slower:.3g}x slower" if slower >= 1 else f"{1 / slower:.3g}x faster"
    return [f"{time} s over seven frames: {exposure['fps']:.4g} fps", f"played {pace} than life"]


def scene_of(
    frames: "Tensor", blurry: "Tensor", result: PhotoResult, *, played: float, count: int = 7
) -> "Scene":
    """Describe `count` of the frames of one photo for a page, with the facts about them."""
    from b2v.frames import inner
    from b2v.html_page import Scene, opening, pictures
    from b2v.media.drawing import data_uri, heat_map

    kept = inner(frames, count)
    after, size = pictures(kept)
    before, _ = pictures([blurry])
    height, width = frames.shape[2:]
    facts = [f"{len(kept)} frames of {width}×{height}"]
    if size != (width, height):
        facts.append(f"shown here at {size[0]}×{size[1]}")
    seconds = None
    if result.exposure is not None:
        facts += told(timing(result.exposure["seconds"], played))
        seconds = result.exposure["seconds"] * len(kept) / FRAMES
    return Scene(
        title=Path(result.input).name,
        before=before,
        after=after,
        size=size,
        facts=facts,
        seconds=seconds,
        fps=max(1, round(played)),
        heat=data_uri(heat_map(inner(frames), blurry)),
        view=opening(blurry, kept[len(kept) // 2]),
    )


def notes_on(tags: "Sequence[Tags]", *, photo: bool = True) -> list[str]:
    """List the notes at the end of a page: what made it, and what to keep in mind."""
    said = list(dict.fromkeys(one.sentence for one in tags if one.sentence))
    return ([GUESS] if photo else []) + said


SUFFIXES = tuple(suffix for suffix in STILLS if suffix != ".bmp")
"""What one picture is written as; as good as can be it is never a BMP."""
ALONE = ("jpg", "avif")
"""Kinds that no clip has; PNG and TIFF are also folders of frames, WebP can be played."""


def _share(strength: float) -> float:
    if not 0 <= strength <= 1:  # not a number is refused as well
        raise UsageError(f"--strength {strength:g}: expected 0 to 1")
    return strength


Still = Annotated[
    bool,
    options.in_output(
        "--still", help="Write one sharp picture, the middle of the exposure, not a clip."
    ),
]
Strength = Annotated[
    float,
    options.in_output(
        callback=_share, help="Blend restored frames with the photo: 0 is the photo, 1 restored."
    ),
]


def is_wanted(asked: bool, output: str | None, kind: Format | None) -> bool:
    """Tell whether one picture is wanted: `asked` for, or by a kind or name that no clip has.

    Raises UsageError where the name has a place for the numbers of frames.
    """
    if asked or kind in ALONE:
        return True
    if output is None or names_folder(output):
        return False
    suffix = Path(output).suffix.lower()
    if suffix not in SUFFIXES or suffix == ".webp":
        return False
    if re.search(r"%\d*d", Path(output).name):  # as FFmpeg numbers frames
        raise UsageError(f"{output}: for all frames name a folder (--format tiff for TIFF)")
    return True
