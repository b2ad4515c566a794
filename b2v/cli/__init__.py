"""The command line: parse, call the core, render.

Results go to stdout, everything else to stderr. An expected error is one line, and its class
says the exit code: 1 failed, 2 wrong usage, 3 weights or network, 4 a batch partly failed,
130 interrupted.
"""

import io
import os
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from b2v import __version__
from b2v.cli import demo, evaluate, extract, machine, options, synth, train, video, weights
from b2v.cli.options import INTERRUPTED, examples
from b2v.errors import B2VError
from b2v.files import VIDEOS

FAILED, WRONG_USAGE = 1, 2
BAD_COMMAND_LINE: type[Exception] = typer.BadParameter.__bases__[0]
"""What the parser raises for any line it cannot read; typer does not give it a public name."""

app = typer.Typer(
    name="b2v",
    rich_markup_mode=None,  # half of the time that help takes
    help="Blur to video: get the motion back out of a blurry photo.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("extract", cls=options.Command, epilog=examples("extract"))(extract.command)
app.command("deblur", cls=options.Command, epilog=examples("deblur"))(video.deblur)
app.command("slowmo", cls=options.Command, epilog=examples("slowmo"))(video.slowmo)
app.command("demo", cls=options.Command, epilog=examples("demo"))(demo.command)
app.command("eval", cls=options.Command, epilog=examples("eval"))(evaluate.command)
app.command("synth-dataset", cls=options.Command, epilog=examples("synth-dataset"))(synth.command)
app.command("train", cls=options.Command, epilog=examples("train"))(train.command)
app.command("study", cls=options.Command, epilog=examples("study"))(train.study)
app.command("bench", cls=options.Command, epilog=examples("bench"))(machine.bench)
app.command("doctor", cls=options.Command, epilog=examples("doctor"))(machine.doctor)
app.add_typer(weights.app, name="weights")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        from b2v.inference.runtime import choose

        typer.echo(f"b2v {__version__} (torch {version('torch')}, {choose()})")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Show versions and the device."
        ),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; expected errors become one line and an exit code."""
    _open_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # a name of a file may be no UTF-8
    code, problem = _run()
    if problem:
        options.note(f"b2v: {problem}")
    sys.exit(code)


def _open_closed_streams() -> None:
    """Open /dev/null for each standard stream that the caller closed, as services and cron do.

    Its number is taken, too: a file that we open would get it, and what libraries say there.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        if number and getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - to the end of the run


def _run() -> tuple[int, str]:
    """Run the command line; return the exit code and what to say about it, if anything."""
    try:
        Path.cwd()
    except FileNotFoundError:  # libraries would end the process without a word of ours
        return FAILED, "the current folder was deleted; change into another"
    try:
        code = app(prog_name="b2v", standalone_mode=False) or 0
        sys.stdout.flush()
    except B2VError as error:
        return error.exit_code, str(error)
    except BAD_COMMAND_LINE as error:
        return WRONG_USAGE, _explain(error)
    except MemoryError:
        return FAILED, "out of memory; close other programs or use a smaller picture"
    except ImportError as error:
        how = "out of memory, or b2v is not completely installed"
        return FAILED, f"a library cannot be loaded ({error}); {how}"
    except OSError as error:
        with suppress(OSError):  # writing what stdout still holds would fail once more at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        where = f"{error.filename}: " if error.filename else ""
        silent = isinstance(error, BrokenPipeError)  # who reads our output has seen enough
        return FAILED, "" if silent else f"{where}{error.strerror or error}"
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    return code, "interrupted; no partial output is left" if code == INTERRUPTED else ""


def _explain(error: Exception) -> str:
    """Say in one line what is wrong with the command line; show help where it is empty."""
    said = error.format_message()  # type: ignore[attr-defined]
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(said, err=True)
        return ""
    unknown = re.match(r"No such command '(.+?)'\.?", said)
    if unknown and Path(unknown[1]).exists():
        what = "deblur" if Path(unknown[1]).suffix.lower() in VIDEOS else "extract"
        return f"{unknown[1]}: name a command first: b2v {what} {unknown[1]}"
    context = getattr(error, "ctx", None)
    name = context.command_path if context else "b2v"
    return f"{said.rstrip('.')}; see `{name} --help`"
