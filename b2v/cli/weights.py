"""`b2v weights`: what there is, whether it is intact, how to get more."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from b2v.cli import options
from b2v.cli.options import examples
from b2v.defaults import MB, PHOTO_MODEL
from b2v.errors import UsageError, WeightsError
from b2v.files import one_line

app = typer.Typer(help="List, check, download, import and publish weights.", no_args_is_help=True)


@app.command("list", epilog=examples("weights list"))
def list_command(as_json: options.Json = False) -> None:
    """List the models that -m can name."""
    from b2v.weights.store import list_models

    models = list_models()
    if as_json:
        typer.echo(json.dumps([asdict(model) for model in models], default=str))
        return
    table = Table("name", "where", "size", "license", "networks", show_lines=True)
    for model in models:
        size, state = f"{model.bytes / MB:.1f} MB", model.problem or "complete"
        state += f" (another {model.name} is found before)" if model.shadowed else ""
        table.add_row(*map(Text, (model.name, model.where, size, model.license, state)))
    if models:
        Console().print(table)
    else:
        options.note("no weights here; see `b2v weights download` and `b2v weights import`")


@app.command("verify", epilog=examples("weights verify"))
def verify_command(
    name: Annotated[
        str | None, typer.Argument(help="Name of a model  [default: all]", metavar="NAME")
    ] = None,
) -> None:
    """Check the files of a model."""
    from b2v.weights.store import list_models, verify

    cards = [name] if name else [str(m.folder / f"{m.name}.json") for m in list_models()]
    if not cards:
        raise WeightsError("no weights here; see `b2v weights download` and `b2v weights import`")
    wrong = 0
    for card in cards:
        try:
            checks = verify(card)
        except WeightsError as error:
            if name:
                raise
            typer.echo(f"WRONG  {one_line(error)}")
            wrong += 1
            continue
        for check in checks:
            wrong += check.problem is not None
            state = "ok   " if check.problem is None else "WRONG"
            problem = f": {one_line(check.problem)}" if check.problem else ""
            typer.echo(f"{state}  {check.path}{problem}")
    if wrong:
        raise WeightsError(f"{wrong} wrong; install b2v again, or download or import the weights")


@app.command("download", epilog=examples("weights download"))
def download_command(
    name: Annotated[
        str,
        typer.Argument(
            help="Name of a model, or hf://owner/repo@revision/file.", metavar="[NAME|ADDRESS]"
        ),
    ] = PHOTO_MODEL,
    quiet: options.Quiet = False,
) -> None:
    """Download a model.

    The address of a card (.json) brings its networks along.
    """
    from b2v.weights.store import download

    paths = download(name)
    for path in paths:
        typer.echo(path)
    if paths[0].suffix == ".json":
        options.note(f"use it with: b2v extract PHOTO -m {paths[0].stem}", quiet=quiet)
    else:
        options.note(f"use it with: b2v extract PHOTO --weights {paths[0]}", quiet=quiet)


@app.command("import", epilog=examples("weights import"))
def import_command(
    files: Annotated[
        list[Path],
        typer.Argument(help="The authors' .pth files, one to four, or MAXIM.", metavar="FILE"),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder to write to, instead of the cache."),
    ] = None,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Convert the released weights of others.

    The 2018 cascade is one to four .pth files, MAXIM-3S for deblurring a single .safetensors
    file with the weights of all its stages under their names in the authors' code.
    """
    from b2v.files import cache_dir
    from b2v.models import missing_roles
    from b2v.weights.checkpoints import read_card
    from b2v.weights.imports import import_maxim, import_released
    from b2v.weights.store import find_model

    folder = output or cache_dir()
    maxim = [path for path in files if path.suffix == ".safetensors"]
    if maxim and len(files) > 1:
        raise UsageError(f"{maxim[0]} is imported alone: it holds all stages of MAXIM")
    if maxim:
        written = import_maxim(maxim[0], folder, overwrite=overwrite)
    else:
        written = import_released(files, folder, overwrite=overwrite)
    for path in written:
        typer.echo(path)
    found = output is None and find_model(written[-1].stem).folder == folder  # not another one
    card, where = written[-1], "" if found else f" --weights {folder}"
    said = f"use it with: b2v extract PHOTO -m {card.stem}{where}"
    if missing := missing_roles(read_card(card).networks):
        said = f"{card.stem} still lacks {', '.join(missing)}: import those files as well"
    options.note(said, quiet=quiet)


@app.command("publish", epilog=examples("weights publish"))
def publish_command(
    name: Annotated[
        str, typer.Argument(help="Name of a model, or path of its card.", metavar="NAME")
    ],
    repo: Annotated[str, typer.Argument(help="owner/name on the hub.", metavar="REPO")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the files to this folder; upload nothing."),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a private repository.")] = False,
    license: Annotated[str, typer.Option(help="License of a model of your own, such as MIT.")] = "",
    quiet: options.Quiet = False,
) -> None:
    """Upload a model to the Hugging Face Hub.

    Networks, card, license and a page made of the card go up in one commit. HF_TOKEN must be a
    token that may write; HF_ENDPOINT, HTTPS_PROXY and NO_PROXY are respected.
    """
    from b2v.weights.store import publish, stage

    if output is None:
        address = publish(name, repo, private=private, license=license)
        typer.echo(address)
        options.note(f"others get it with: b2v weights download {address}", quiet=quiet)
        return
    if output.exists():
        raise UsageError(f"{output}: exists already; name a new folder")
    stage(name, repo, output, license=license)
    for path in sorted(output.iterdir()):
        typer.echo(path)
