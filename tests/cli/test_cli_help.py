"""Help, examples and shell completion, as a user meets them."""

import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
import typer.main
from command_line import REPOSITORY, run_main

from b2v.cli import app
from b2v.cli.options import EXAMPLES

ROOT = typer.main.get_command(app)
LINES = [(name, line) for name, lines in EXAMPLES.items() for line, _ in lines]


def commands(group, *above):
    """Full names of all commands, and the commands."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, *above, name)
        else:
            yield " ".join([*above, name]), command


COMMANDS = dict(commands(ROOT))


def complete(shell, *words, folder):
    """What the program answers to the TAB key at the end of `words`; nothing heavy is imported."""
    env = {
        **{key: value for key, value in os.environ.items() if not key.startswith("COMP_")},
        "PYTHONPATH": str(REPOSITORY),
        "_B2V_COMPLETE": f"complete_{shell}",
        "_TYPER_COMPLETE_ARGS": " ".join(["b2v", *words]),
        "COMP_WORDS": " ".join(["b2v", *words]),
        "COMP_CWORD": str(len(words)),
    }
    script = (
        "import sys\nfrom b2v.cli import main\n"
        "try:\n    main()\nfinally:\n    assert 'torch' not in sys.modules"
    )
    command = [sys.executable, "-c", script]
    return subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True)


def test_the_first_line_about_a_command_fits_beside_its_name():
    assert [name for name, found in COMMANDS.items() if len(found.help.split("\n")[0]) > 50] == []


def test_options_stand_in_groups_the_same_for_all_commands(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    groups = {}
    for name in ("extract", "deblur", "slowmo"):
        said = run_main(capsys, name, "--help").out
        assert max(map(len, said.splitlines())) <= 80
        groups[name] = dict(re.findall(r"\n(\w[\w ]*):\n((?:  .*\n)+)", said))
    for group in ("Model and machine", "Several inputs"):
        assert "--quality" in groups["deblur"]["Model and machine"]
        assert groups["deblur"][group] == groups["slowmo"][group]
    assert groups["extract"]["Several inputs"] == groups["deblur"]["Several inputs"]
    assert "--resume" in groups["slowmo"]["Video"]


@pytest.mark.parametrize("name", ["extract", "deblur", "slowmo"])
def test_a_missing_file_is_refused_before_torch_is_imported(name):
    script = (
        "import sys\nfrom b2v.cli import main\n"
        f"sys.argv = ['b2v', '{name}', 'missing.jpg']\n"
        "try:\n    main()\nfinally:\n    assert 'torch' not in sys.modules"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ran.returncode == 1
    assert ran.stderr == "b2v: missing.jpg: no such file; check the name\n"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["photo.jpg"], 2, "photo.jpg: name a command first: b2v extract photo.jpg"),
        (["film.mp4"], 2, "film.mp4: name a command first: b2v deblur film.mp4"),
        (["deblur", "photo.jpg"], 1, "; try `b2v extract photo.jpg`"),
        (["extract", "film.mp4"], 1, "; try `b2v deblur film.mp4`"),
    ],
)
def test_a_file_where_it_does_not_belong_gets_a_hint(
    capsys, monkeypatch, tmp_path, words, code, said
):
    monkeypatch.chdir(tmp_path)
    for name in ("photo.jpg", "film.mp4"):
        (tmp_path / name).write_bytes(b"no picture and no video")
    ran = run_main(capsys, *words)
    assert ran.code == code
    assert ran.err.rstrip().endswith(said)


def test_every_command_has_its_place_in_the_manual():
    assert set(EXAMPLES) == set(COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_shows_what_a_command_does_and_its_examples(capsys, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("NO_COLOR", "1")
    ran = run_main(capsys, *name.split(), "--help")
    assert (ran.code, ran.err) == (0, "")
    assert f"b2v {name}" in ran.out
    assert COMMANDS[name].help.split("\n")[0][:60] in " ".join(ran.out.split())
    for line, _ in EXAMPLES[name]:
        assert line in ran.out


@pytest.mark.parametrize(("name", "line"), LINES, ids=[line for _, line in LINES])
def test_the_parser_takes_every_example(name, line):
    words = shlex.split(line)
    assert f"b2v {name}" in line
    start = words.index("b2v") + 1 + len(name.split())
    arguments = words[start:]
    if "|" in arguments:
        arguments = arguments[: arguments.index("|")]
    COMMANDS[name].make_context(name, arguments)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_completion_is_given(capsys, monkeypatch, shell):
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    ran = run_main(capsys, "--show-completion", shell)
    assert (ran.code, ran.err) == (0, "")
    assert "_B2V_COMPLETE" in ran.out
    if program := shutil.which(shell):
        checked = subprocess.run([program, "-n"], input=ran.out, text=True, capture_output=True)
        assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["ex"], ["extract"]),
        (["weights", "p"], ["publish"]),
        (["extract", "--sk"], ["--skip-existing"]),
        (["extract", "photo.jpg", "--order", "b"], ["boomerang"]),
        (["deblur", "--codec", "v"], ["vp9"]),
    ],
)
def test_bash_is_offered_what_fits(tmp_path, words, offered):
    ran = complete("bash", *words, folder=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert sorted(ran.stdout.split()) == offered


def test_the_readme_names_no_command_that_is_not_there():
    blocks = re.findall(r"^```sh\n(.*?)^```", (REPOSITORY / "README.md").read_text(), re.M | re.S)
    named = set(re.findall(r"^b2v ([a-z][a-z-]+)", "".join(blocks), re.M))
    assert named
    assert named <= {name.split()[0] for name in COMMANDS}
