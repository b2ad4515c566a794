"""A process with everything loaded, which runs commands in forks of itself, and kills them.

A fork starts at once where a new process would load libraries for seconds: there is one such
process for all tests, see the fixture `driver`.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread
from typing import BinaryIO

import pytest

REPOSITORY = Path(__file__).parents[1]
posix = pytest.mark.skipif(os.name != "posix", reason="fork, mount and kill are of POSIX")

COMMAND = "from b2v.cli import main; main()"
SCRIPT = """
import json, os, pkgutil, signal, socket, sys, time
from importlib import import_module
import torch
torch.set_num_threads(1)
import b2v
for module in pkgutil.walk_packages(b2v.__path__, "b2v."):
    if not module.name.endswith("__main__"):
        import_module(module.name)

channel, script = socket.socket(fileno=int(sys.argv[1])), ""

def begin(asked, files):
    channel.close()
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if number in asked["closed"]:  # as Python finds it at its start
            os.close(number)
            setattr(sys, name, None)
        else:
            os.dup2(files[number], number)
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))
    for file in files:
        os.close(file)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background ignore it
    sys.argv = ["b2v", *asked["args"]]

while True:
    data, files, *_ = socket.recv_fds(channel, 1 << 16, 3)
    while data and not data.endswith(b"\\n"):
        data += channel.recv(1 << 16)
    if not data:
        break
    asked = json.loads(data)
    if "wait" in asked:
        pid, status = os.waitpid(asked["wait"], os.WNOHANG)
        answer = os.waitstatus_to_exitcode(status) if pid else None
    else:
        if asked["args"][:1] == ["train"]:
            import torch._dynamo  # which optimizers load, for seconds
        answer = os.fork()
        if not answer:
            begin(asked, files)
            script = asked["script"]
            break
        for file in files:
            os.close(file)
    channel.sendall(json.dumps(answer).encode() + b"\\n")
exec(script, {"__name__": "__main__"})  # in a fork; what it raises ends the process
"""


class Forked:
    """A command that runs in a fork, with pipes for the streams that were asked for."""

    def __init__(self, driver: "Driver", asked: dict, streams: list) -> None:
        self.driver, self.returncode = driver, None
        ours, theirs = [], []
        for number, stream in enumerate(streams):
            mine, other = None, stream
            if stream == subprocess.PIPE:
                reading, writing = os.pipe()
                mine, other = (reading, writing) if number else (writing, reading)
            elif stream is None:
                other = os.open(os.devnull, os.O_RDWR)
            elif not isinstance(stream, int):
                other = os.dup(stream.fileno())
            else:
                other = os.dup(stream)
            ours.append(None if mine is None else os.fdopen(mine, "rb" if number else "wb"))
            theirs.append(other)
        self.pid = driver.ask(asked, theirs)
        for file in theirs:
            os.close(file)
        self.stdin, self.stdout, self.stderr = ours

    def __enter__(self) -> "Forked":
        return self

    def __exit__(self, *_: object) -> None:
        if self.poll() is None:
            self.send_signal(signal.SIGKILL)
            self.wait()
        for file in filter(None, (self.stdin, self.stdout, self.stderr)):
            file.close()

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self.driver.ask({"wait": self.pid})
        return self.returncode

    def wait(self, timeout: float = 300) -> int:
        late = time.monotonic() + timeout
        while self.poll() is None:
            assert time.monotonic() < late
            time.sleep(0.01)
        return self.returncode

    def communicate(self, data: bytes = b"", timeout: float = 300) -> tuple[bytes, bytes]:
        """Write `data`, read all that comes, and wait for the end."""
        found: dict[BinaryIO, bytes] = {}

        def read(file: BinaryIO) -> None:
            found[file] = file.read()

        threads = [Thread(target=read, args=[f]) for f in (self.stdout, self.stderr) if f]
        for thread in threads:
            thread.start()
        if self.stdin is not None:
            with self.stdin as file:
                file.write(data)
        for thread in threads:
            thread.join(timeout)
        self.wait(timeout)
        return tuple(found.get(file, b"") for file in (self.stdout, self.stderr))


class Driver:
    """Runs and kills commands in `folder`."""

    def __init__(self) -> None:
        self.folder = Path()
        env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
        self._channel, theirs = socket.socketpair()
        command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(theirs.fileno())]
        self.process = subprocess.Popen(command, env=env, pass_fds=[theirs.fileno()])
        theirs.close()

    def ask(self, asked: dict, files: list = ()) -> int | None:
        data = json.dumps(asked).encode() + b"\n"
        socket.send_fds(self._channel, [data[:1]], files)
        self._channel.sendall(data[1:])
        answer = b""
        while not answer.endswith(b"\n"):
            part = self._channel.recv(1 << 16)
            assert part, "the process that runs commands has ended"
            answer += part
        return json.loads(answer)

    def start(
        self, *args: object, script: str = COMMAND, closed=(), stdin=None, stdout=None, stderr=None
    ) -> Forked:
        """Start a script, `b2v ARGS` unless told otherwise, as a process of its own."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        asked = {"args": list(map(str, args)), "script": script, "closed": closed}
        asked |= {"folder": str(self.folder.absolute()), "environment": environment}
        return Forked(self, asked, [stdin, stdout, stderr])

    def run(self, *args: object, code: int = 0, closed=()) -> float:
        """Run a command that ends with `code`; return how many seconds it took.

        The streams of the numbers `closed` are; others lead nowhere.
        """
        begun = time.monotonic()
        with self.start(*args, closed=closed) as process:
            assert process.wait() == code
        return time.monotonic() - begun

    def kill(self, after: float, *args: object) -> None:
        """Kill a command after so many seconds; it may be over by then."""
        with self.start(*args) as process:
            time.sleep(after)
            process.send_signal(signal.SIGKILL)
            assert process.wait() in (0, -9)

    def close(self) -> None:
        """End the process."""
        self._channel.close()
        self.process.kill()
        self.process.communicate()
