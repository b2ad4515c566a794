"""What is written of a photo's seven frames: a clip or one picture, comparison, filmstrip, page."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from b2v.cli import options
from b2v.cli.options import OUTPUT, Result, tell
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


@dataclass(frozen=True, kw_only=True)
class Showing:
    """What is to be written beside the results; `several` inputs have folders for that."""

    compare: Annotated[
        Literal["side", "stack"] | None,
        typer.Option(
            help="Show the blurry picture beside or above the restored one.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None
    filmstrip: Annotated[
        Path | None,
        typer.Option(
            metavar="PICTURE",
            help="The frames in a row, blurry first.",
            rich_help_panel=options.EXTRAS,
        ),
    ] = None
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="PAGE",
            help="A page to compare them in the browser, offline.",
            rich_help_panel=options.EXTRAS,
        ),
    ] = None
    strip_metadata: Annotated[
        bool,
        typer.Option(
            "--strip-metadata",
            help="Write no metadata on model, camera or date.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = False
    keep_gps: Annotated[
        bool,
        typer.Option(
            "--keep-gps", help="Keep the place of recording.", rich_help_panel=options.OUTPUT
        ),
    ] = False
    heat: Path | None = None
    several: bool = False

    def __post_init__(self) -> None:
        if self.strip_metadata and self.keep_gps:
            raise UsageError("--strip-metadata and --keep-gps are mutually exclusive; use one")
        for path in (self.filmstrip, self.html, self.heat) if self.several else ():
            if path is not None and path.suffix.lower() in (*PICTURES, *PAGES):
                raise UsageError(f"{path}: one file for several inputs; name a folder")

    def strip_of(self, output: str) -> Path | None:
        """Name the filmstrip that goes with an output, if one is wanted."""
        return self._named(self.filmstrip, output, "_strip.png")

    def page_of(self, output: str) -> Path | None:
        """Name the page that goes with an output, if one is wanted."""
        return self._named(self.html, output, ".html")

    def heat_of(self, output: str) -> Path | None:
        """Name the heat map that goes with an output, if one is wanted."""
        return self._named(self.heat, output, "_heat.png")

    def _named(self, wanted: Path | None, output: str, ending: str) -> Path | None:
        if wanted is None or not self.several:
            return wanted
        return wanted / f"{Path(output).stem}{ending}"

    def check(self, results: Sequence["Result"], *, overwrite: bool) -> None:
        """Find out before any work what cannot be written, and note it at its result."""
        taken: set[Path] = set()
        for result in results:
            if result.error or result.skipped:
                continue
            wanted = [
                (self.strip_of(result.output), PICTURES),
                (self.page_of(result.output), PAGES),
                (self.heat_of(result.output), PICTURES),
            ]
            with options.noting(result):
                taken.add(Path(result.output).absolute())
                for path, suffixes in wanted:
                    if path is None:
                        continue
                    if path.absolute() in taken:
                        why = "two outputs would both be written there; rename one"
                        raise UsageError(f"{path}: {why}")
                    taken.add(path.absolute())
                    self._check(path, suffixes, result.input, overwrite=overwrite)

    def _check(self, path: Path, suffixes: Sequence[str], source: str, *, overwrite: bool) -> None:
        from b2v.files import check_parent
        from b2v.media.images import check_file

        if self.several and not path.parent.is_dir():
            check_parent(path.parent)
        else:
            check_file(path, suffixes, overwrite=overwrite, inputs=[source])

    def tags_for(
        self,
        source: str | None,
        model: "Model",
        *,
        strength: float = 1.0,
    ) -> "Tags":
        """Say what the files of one input are to say of themselves."""
        from b2v.media.images import tags_of
        from b2v.media.metadata import Tags

        if self.strip_metadata:
            return Tags()
        found = Tags() if source is None else tags_of(source, keep_gps=self.keep_gps)
        return found.made_by(replace(model.provenance, strength=strength))


@dataclass(frozen=True, kw_only=True)
class PhotoShowing(Showing):
    """What is to be written beside clips of photos."""

    heat: Annotated[
        Path | None,
        typer.Option(
            "--reblur",
            metavar="PICTURE",
            help="A map of where the frames reproduce the photo (gray) and where not (yellow).",
            rich_help_panel=options.EXTRAS,
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


@dataclass(frozen=True)
class Job:
    """What is asked for, the same for every input; `folder` is to be made for the outputs.

    `stills` are the pictures of a folder of frames; `still` is one picture instead of a clip.
    """

    fps: float
    order: Order
    loop: int
    middle: "Tensor | None"
    overwrite: bool
    folder: Path | None
    frames: int = 7
    showing: Showing = field(default_factory=Showing)
    max_memory: float | None = None
    codec: str | None = None
    stills: str = "png"
    still: bool = False
    strength: float = 1.0
    preview: int | None = None
    quiet: bool = False
    verbose: bool = False


def arrange(frames: "Tensor", order: Order) -> "Tensor":
    """Put frames into the order they are played in; of seven, a boomerang has twelve."""
    import torch

    if order == "reverse":
        return frames.flip(0)
    if order == "boomerang":
        return torch.cat([frames, frames[1:-1].flip(0)])
    return frames


def is_video(result: PhotoResult) -> bool:
    """Tell whether the clip is played as video, not as an animated picture or a folder."""
    return Path(result.output).suffix.lower() in CONTAINERS


def show(result: PhotoResult, *, as_json: bool, quiet: bool, verbose: bool = False) -> None:
    """Print the path, or the JSON object, of one result; say how it went, `verbose` by what."""
    if as_json:
        typer.echo(result.as_json())
    elif result.ok:
        typer.echo(result.output)
    if result.error:
        options.note(f"b2v: {result.error}")
    elif not as_json and result.model:
        one = result.frames == 1
        said = (
            f"{options.one_line(result.input)}: "
            f"{'one picture' if one else f'{result.frames} frames'} of "
            f"{result.size[0]}x{result.size[1]} in {result.seconds:.1f} s"
        )
        if verbose:
            said += (
                f" ({result.device} {result.precision}, {result.model['name']}); "
                f"{'seven frames' if one else 'they'} reproduce the photo to "
                f"{result.reblur_db:.1f} dB"
            )
        options.note(said, quiet=quiet)
    if result.model and not result.error:
        tell(result, as_json=as_json, quiet=quiet)


WHOLE = 0.4
"""Seconds from which on an exposure time is not told as a fraction."""
GUESS = "The direction of time is ambiguous in a blurry photo; b2v picks one."


def write(
    frames: "Tensor", photo: "Photo", blurry: "Tensor", tags: "Tags", job: Job, result: PhotoResult
) -> None:
    """Write all that is asked for of the `frames` of one photo, seven or more.

    `blurry` is the photo on white; `tags` are what the files are to say of themselves.
    """
    if job.folder is not None:
        Path(result.output).parent.mkdir(parents=True, exist_ok=True)
    made = (_write_still if job.still else _write_clip)(frames, photo, blurry, tags, job, result)
    result.frames, result.size = len(made), [made.shape[3], made.shape[2]]
    _write_extras(frames.flip(0) if job.order == "reverse" else frames, blurry, tags, job, result)


def _write_still(
    frames: "Tensor", photo: "Photo", blurry: "Tensor", tags: "Tags", job: Job, result: PhotoResult
) -> "Tensor":
    """Write the middle one of `frames`, and say what the photo has and the file cannot have.

    Returns:
        It alone, [1, 3, H, W].

    """
    from b2v.media.images import lost_in, write_still

    middle, path = len(frames) // 2, result.output
    write_still(
        frames[middle],
        path,
        alpha=photo.alpha,
        bits=photo.bits,
        tags=tags,
        overwrite=job.overwrite,
    )
    result.lost += [f"{path}: {lost}" for lost in lost_in(path, photo.alpha, photo.bits)]
    return frames[middle : middle + 1]


def _write_clip(
    frames: "Tensor", photo: "Photo", blurry: "Tensor", tags: "Tags", job: Job, result: PhotoResult
) -> "Tensor":
    """Write the clip; return its frames as it shows them."""
    from b2v.frames import inner
    from b2v.media.clips import Clip
    from b2v.media.drawing import beside
    from b2v.media.images import lost_in

    played = arrange(inner(frames, job.frames), job.order)
    if is_video(result) and job.loop > 1:
        played = played.repeat(max(1, job.loop), 1, 1, 1)
    if job.showing.compare is not None:
        played = beside(blurry, played, job.showing.compare)
    alpha = photo.alpha if job.showing.compare is None else None
    result.lost += [
        f"{result.output}: {lost}" for lost in lost_in(result.output, photo.alpha, photo.bits)
    ]
    clip = Clip(played, job.fps, tags, alpha, photo.bits)
    clip.save(
        result.output,
        overwrite=job.overwrite,
        loop=job.loop,
        codec=job.codec,
        stills=job.stills,
    )
    return played


def _write_extras(
    frames: "Tensor", blurry: "Tensor", tags: "Tags", job: Job, result: PhotoResult
) -> None:
    """Write what is wanted beside the clip of `frames`, seven or more in the order of the clip."""
    from b2v.frames import inner
    from b2v.html_page import write_page
    from b2v.media.drawing import heat_map, strip
    from b2v.media.images import write_photo

    showing, sheets, kept = job.showing, [], inner(frames, job.frames)
    if path := showing.strip_of(result.output):
        names = [f"frame {number}" for number in range(1, len(kept) + 1)]
        sheets.append((path, strip([[blurry, *kept]], [["blurry", *names]])))
    if path := showing.heat_of(result.output):
        sheets.append((path, heat_map(inner(frames), blurry)))
    for path, sheet in sheets:
        path.parent.mkdir(exist_ok=True)
        write_photo(sheet, path, overwrite=job.overwrite, tags=tags)
    if path := showing.page_of(result.output):
        path.parent.mkdir(exist_ok=True)
        scene = scene_of(frames, blurry, result, played=job.fps, count=job.frames)
        name = Path(result.input).name
        write_page(path, name, [scene], notes_on([tags]), overwrite=job.overwrite)


def note_on_photo(photo: "Photo", result: PhotoResult, job: Job) -> None:
    """Note in `result` what the photo tells before it is restored: its pages, its time."""
    result.lost += [f"{result.input}: {note}" for note in photo.notes]
    if photo.pages > 1:
        result.notes.append(f"{result.input}: has {photo.pages} pictures; only the first is used")
    if photo.exposure_time is not None:
        result.exposure = timing(photo.exposure_time, job.fps)
        if not job.still:  # one picture is not played
            result.notes.append(f"{result.input}: {', '.join(told(result.exposure))}")


def timing(seconds: float, played: float) -> dict[str, float]:
    """Say to programs how fast seven frames of an exposure went by, and how they are played."""
    fps = FRAMES / seconds
    return {"seconds": round(seconds, 6), "fps": round(fps, 6), "slower": round(fps / played, 6)}


def told(exposure: dict[str, float]) -> list[str]:
    """Say it to people; short exposures as cameras do: 1/15 s."""
    seconds, slower = exposure["seconds"], exposure["slower"]
    time = f"1/{max(1, round(1 / seconds))}" if seconds < WHOLE else f"{seconds:.3g}"
    pace = f"{slower:.3g}x slower" if slower >= 1 else f"{1 / slower:.3g}x faster"
    return [f"{time} s over seven frames: {exposure['fps']:.4g} fps", f"played {pace} than life"]


def scene_of(
    frames: "Tensor", blurry: "Tensor", result: PhotoResult, *, played: float, count: int = 7
) -> "Scene":
    """Put `count` of the frames of one photo on a page, with what is known of them."""
    from b2v.frames import inner
    from b2v.html_page import Scene, pictures, start
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
        view=start(blurry, kept[len(kept) // 2]),
    )


def notes_on(tags: "Sequence[Tags]", *, photo: bool = True) -> list[str]:
    """Say below a page what made it, and what to keep in mind."""
    said = list(dict.fromkeys(one.sentence for one in tags if one.sentence))
    return ([GUESS] if photo else []) + said


SUFFIXES = tuple(suffix for suffix in STILLS if suffix != ".bmp")
"""What one picture is written as; as good as can be it is never a BMP."""
ALONE = ("jpg", "avif")
"""Kinds that no clip has; PNG and TIFF are also folders of frames, WebP can be played."""
MANY = re.compile(r"%\d*d(?![A-Za-z])")
"""The number of a frame, as FFmpeg writes it into names."""


def _share(strength: float) -> float:
    if not 0 <= strength <= 1:  # not a number is refused as well
        raise UsageError(f"--strength {strength:g}: expected 0 to 1")
    return strength


Still = Annotated[
    bool,
    typer.Option(
        "--still",
        help="Write one sharp picture, the middle of the exposure, not a clip.",
        rich_help_panel=OUTPUT,
    ),
]
Strength = Annotated[
    float,
    typer.Option(
        callback=_share,
        help="Blend restored frames with the photo: 0 is the photo, 1 restored.",
        rich_help_panel=OUTPUT,
    ),
]


def is_wanted(asked: bool, output: str | None, kind: Format | None) -> bool:
    """Tell whether one picture is meant: `asked` for, or by a kind or a name that no clip has.

    Raises UsageError where the name has a place for the numbers of frames.
    """
    if asked or kind in ALONE:
        return True
    if output is None or names_folder(output):
        return False
    suffix = Path(output).suffix.lower()
    if suffix not in SUFFIXES or suffix == ".webp":
        return False
    if MANY.search(Path(output).name):
        many = "one picture has no number; for all frames name a folder (--format tiff for TIFF)"
        raise UsageError(f"{output}: {many}")
    return True


def still_suffix(kind: Format | None, photo: Path) -> str:
    """Name the suffix of one picture of a photo, whose own kind is kept without `kind`."""
    own = photo.suffix if photo.suffix.lower() in SUFFIXES else ".jpg"
    return own if kind is None else f".{kind}"


def check_kind(kind: Format | None) -> None:
    """Check that `kind`, if given, is one of a picture; raises UsageError."""
    if kind is not None and f".{kind}" not in SUFFIXES:
        known = ", ".join(kind for kind in get_args(Format) if f".{kind}" in SUFFIXES)
        raise UsageError(f"--format {kind} is a clip, not one picture; use {known}")


def refuse_idle(job: Job) -> None:
    """Raise UsageError where an option would change nothing, as one picture is all that it is for.

    The filmstrip and the page show all frames, in their order; the page plays them.
    """
    page = job.showing.html is not None
    rows = page or job.showing.filmstrip is not None
    idle = {
        "--compare": job.showing.compare is not None,
        "--codec": job.codec is not None,
        "--loop": job.loop != 0,
        "--order": job.order != "forward" and not rows,
        "--frames": job.frames != FRAMES and not rows,
        "--fps": job.fps != FPS and not page,
    }
    given = [option for option, is_given in idle.items() if is_given]
    if given:
        raise UsageError(f"{given[0]} is for clips, not for one picture; leave it out")
