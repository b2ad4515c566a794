"""A process with everything loaded, which runs commands in forks of itself, and kills them.

A fork starts at once where a new process would load libraries for seconds: there is one such
process for all tests, see the fixture `driver`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
posix = pytest.mark.skipif(os.name != "posix", reason="fork, mount and kill are of POSIX")

SURROUNDINGS = ("B2V_CACHE", "B2V_WEIGHTS_DIR", "HF_HOME", "HF_ENDPOINT")
"""What a command is told of the test that asks for it."""
SCRIPT = """
import json, os, pkgutil, signal, sys, time
from importlib import import_module
import torch
torch.set_num_threads(1)
import b2v
for module in pkgutil.walk_packages(b2v.__path__, "b2v."):
    if not module.name.endswith("__main__"):
        import_module(module.name)
from b2v.cli import main

def start(asked):
    child = os.fork()
    if child == 0:
        null = os.open(os.devnull, os.O_RDWR)
        for number, name in ((0, "stdin"), (1, "stdout"), (2, "stderr")):
            if number in asked["closed"]:  # as Python finds it at its start
                os.close(number)
                setattr(sys, name, None)
            else:
                os.dup2(null, number)
        os.chdir(asked["folder"])
        os.environ.update(asked["environment"])
        sys.argv = ["b2v", *asked["run"]]
        try:
            main()
        except SystemExit as stop:
            os._exit(int(stop.code or 0))
        os._exit(99)
    return child

for line in sys.stdin:
    asked, begun = json.loads(line), time.monotonic()
    if asked["run"][0] == "train":
        import torch._dynamo  # which optimizers load, for seconds
    child = start(asked)
    if asked["after"] is not None:
        time.sleep(asked["after"])
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    print(json.dumps([os.waitstatus_to_exitcode(status), time.monotonic() - begun]), flush=True)
"""


class Driver:
    """Runs and kills commands in `folder`."""

    def __init__(self) -> None:
        self.folder = Path()
        env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-W", "ignore", "-c", SCRIPT]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, env=env, **pipes)

    def _ask(self, args, after=None, closed=()):
        environment = {name: os.environ[name] for name in SURROUNDINGS if name in os.environ}
        asked = {"run": args, "after": after, "closed": closed}
        asked |= {"folder": str(self.folder), "environment": environment}
        print(json.dumps(asked), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def run(self, *args, code=0, closed=()):
        """Run a command that ends with `code`; return how many seconds it took.

        The streams of the numbers `closed` are; others lead nowhere.
        """
        ended, seconds = self._ask(args, closed=closed)
        assert ended == code
        return seconds

    def kill(self, after, *args):
        """Kill a command after so many seconds; it may be over by then."""
        code, _ = self._ask(args, after)
        assert code in (0, -9)

    def close(self):
        """End the process."""
        self.process.kill()
        self.process.communicate()
