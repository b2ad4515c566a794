"""What the README tells people to type exists."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from b2v.cli import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(?:sh|bash)\n(.*?)```", README, re.DOTALL)
LINES = [line for block in BLOCKS for line in block.replace("\\\n", " ").splitlines()]
COMMANDS = [line for line in LINES if line.startswith("b2v ")]


def options_of(words: list[str]) -> set[str]:
    command = typer.main.get_command(app)
    while words and hasattr(command, "commands"):
        assert words[0] in command.commands, f"no command {words[0]}"
        command = command.commands[words.pop(0)]
    return {"--help", *(name for p in command.params for name in p.opts)}


def test_the_readme_has_commands():
    assert {line.split()[1] for line in COMMANDS} >= {"extract", "demo", "train", "eval", "weights"}


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_and_option_exists(line):
    words = shlex.split(line, comments=True)[1:]
    known = options_of(words)
    used = {word.split("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)}
    assert used <= known, f"unknown: {used - known}"


def test_every_local_picture_and_page_is_there():
    for target in re.findall(r"\]\((?!https?:|#)([^)]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_test_command_is_what_ci_runs():
    assert "pytest" in LINES
    assert "pytest" in (ROOT / ".ci" / "run").read_text().splitlines()
