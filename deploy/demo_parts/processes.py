"""Child processes with logs, and waiting for conditions. Everything that was started ends with `Processes.end`."""

import ctypes
import http.client
import itertools
import os
import random
import signal
import socket
import subprocess
import time
from pathlib import Path

LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


class Failed(Exception):
    """The demonstration cannot go on."""


def end_with_parent():
    """A child does not outlive this script, even if that is killed."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def until(what, condition, limit=30, pause=0.1):
    """Waits until `condition` returns something true, and returns it. `limit`: in seconds."""
    deadline = time.monotonic() + limit
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {limit} s")
        time.sleep(pause)


class Ports:
    """Free ports with five digits, below the range that the kernel uses for outgoing connections."""

    def __init__(self):
        first = random.randrange(18000, 30000, 50)
        self.candidates = itertools.count(first)

    def free(self):
        for port in self.candidates:
            if port > 32000:
                raise Failed("no port is free")
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                    return port
                except OSError:
                    continue


def listens(port):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def get(port, path, headers=None):
    """The status and the body of a GET, or 0 without an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return 0, str(error)
    finally:
        connection.close()


class Process:
    """A program that can be stopped and started again."""

    def __init__(self, name, command, log, environment=None, is_ready=lambda: True):
        self.name = name
        self.command = [str(word) for word in command]
        self.log = log
        self.environment = {"PATH": os.environ["PATH"], **(environment or {})}
        self.is_ready = is_ready
        self.child = None

    def start(self):
        with open(self.log, "ab") as log:
            self.child = subprocess.Popen(
                self.command,
                env={key: str(value) for key, value in self.environment.items()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=end_with_parent,
            )
        return self

    def until_ready(self, limit=60):
        def ready_or_ended():
            if self.child.poll() is not None:
                raise Failed(f"{self.name} ended with {self.child.returncode}:\n{self.tail()}")
            return self.is_ready()

        try:
            until(f"{self.name} to be ready", ready_or_ended, limit)
        except Failed as failed:
            raise Failed(f"{failed}\n{self.tail()}") from None

    def stop(self, limit=40):
        """SIGTERM, as a supervisor stops it."""
        if self.child is None or self.child.poll() is not None:
            return
        self.child.terminate()
        try:
            self.child.wait(limit)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
            raise Failed(f"{self.name} did not stop within {limit} s") from None

    def roll(self):
        self.stop()
        self.start()
        self.until_ready()

    def signal(self, number):
        self.child.send_signal(number)

    def tail(self, lines=15):
        return "\n".join(self.lines()[-lines:])

    def lines(self):
        return Path(self.log).read_text(errors="replace").splitlines()


class Processes:
    """All processes, in the order of their start."""

    def __init__(self, directory):
        self.directory = directory
        self.all = []

    def start(self, name, command, **more):
        process = Process(name, command, self.directory / f"{name}.log", **more)
        self.all.append(process)
        return process.start()

    def end(self):
        running = [process.child for process in self.all if process.child and process.child.poll() is None]
        for child in running:
            child.terminate()
        deadline = time.monotonic() + 10
        for child in running:
            try:
                child.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
