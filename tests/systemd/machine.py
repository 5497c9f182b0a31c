"""A machine of its own under a real systemd, for tests of what systemd and an administrator do with haul.

``boot`` beside this file makes it: this machine's files under an overlay, a network with nothing but loopback, haul installed.
What happens in it stays in it, and all of it is gone when the ``with`` ends or whoever holds it dies.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.beside import beside

BOOT = Path(__file__).with_name("boot")
PATIENCE = 60.0
"""Seconds until a machine that did not boot, or a command in it that did not end, is a failure."""
CLONE_NEWNET = 0x40000000
"""Of setns(2)."""
UNITS = ["hauld.socket", "hauld.service"]
READ = 65536
"""Bytes at once."""


class NoMachine(RuntimeError):
    """A systemd cannot be booted here; the text says why."""


class Machine:
    """What tests do on it. ``leader`` is its process 1, as it is called outside."""

    def __init__(self, leader: int) -> None:
        self.leader = leader
        self.root = Path(f"/proc/{leader}/root")

    def run(self, *command: str, check: bool = True, said: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command as root, with ``said`` on its standard input; unless told otherwise it has to succeed."""
        done = subprocess.run(
            ["nsenter", "-t", str(self.leader), "-a", "--", *command],
            check=False,
            input=said,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
        )
        if check and done.returncode != 0:
            journal = self.run("journalctl", "--no-pager", "--lines=50", check=False).stdout
            output = f"{done.stdout}{done.stderr}\nThe journal ends so:\n{journal}"
            raise AssertionError(f"{' '.join(command)}: exit code {done.returncode}\n{output}")
        return done

    def path(self, path: str) -> Path:
        """A path of the machine's, as this process reaches it. (No absolute symbolic links on the way: they lead astray.)"""
        return self.root / path.removeprefix("/")

    def write(self, path: str, content: str, mode: int = 0o644, owner: str = "root") -> None:
        """A file, with the directories above it."""
        self.path(path).parent.mkdir(parents=True, exist_ok=True)
        self.path(path).write_text(content, "utf-8")
        self.path(path).chmod(mode)
        if owner != "root":
            self.run("chown", owner, path)

    def drop_in(self, unit: str, name: str = "test", **keys: str) -> None:
        """Change how a service runs, as ``systemctl edit`` does."""
        lines = ["[Service]", *(f"{key}={value}" for key, value in keys.items())]
        self.write(f"/etc/systemd/system/{unit}.d/{name}.conf", "\n".join(lines) + "\n")
        self.run("systemctl", "daemon-reload")

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """What ``systemctl show`` says of a unit."""
        lines = self.run("systemctl", "show", unit, *(f"--property={name}" for name in properties)).stdout.splitlines()
        return dict(line.split("=", 1) for line in lines)

    def wait_until(self, unit: str, is_so: Callable[[dict[str, str]], bool]) -> None:
        """Wait until all that systemd says of a unit is as it should be."""
        deadline = time.monotonic() + PATIENCE
        while not is_so(now := self.show(unit)):
            if time.monotonic() > deadline:
                raise AssertionError(f"{unit} did not become so: {now}")
            time.sleep(0.05)

    def journal(self, *options: str) -> list[dict[str, Any]]:
        """The entries that ``journalctl`` with these options finds, oldest first, with all their fields."""
        self.run("journalctl", "--sync")
        lines = self.run("journalctl", "--quiet", "--output=json", "--all", *options).stdout.splitlines()
        return [json.loads(line) for line in lines]

    def person(self, name: str, *groups: str) -> Person:
        """A new user, also in these groups."""
        self.run("useradd", "--create-home", "--groups", ",".join(groups), name)
        return Person(self, name, int(self.run("id", "-u", name).stdout))

    def reset(self) -> None:
        """Have haul as it is after its installation."""
        self.run("systemctl", "stop", *UNITS)
        for path in ("/etc/haul", "/var/lib/haul", *(f"/etc/systemd/system/{unit}.d" for unit in UNITS)):
            shutil.rmtree(self.path(path), ignore_errors=True)
        self.run("systemctl", "daemon-reload")
        self.run("systemctl", "reset-failed")


@dataclass(frozen=True)
class Person:
    """An ordinary user of the machine."""

    machine: Machine
    name: str
    number: int

    @property
    def home(self) -> Path:
        return self.machine.path(f"/home/{self.name}")

    def linger(self) -> None:
        """Run a systemd of one's own, without a login."""
        self.machine.run("loginctl", "enable-linger", self.name)
        self.machine.run("systemctl", "start", f"user@{self.number}.service")

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command as this user; unless told otherwise it has to succeed."""
        place = f"XDG_RUNTIME_DIR=/run/user/{self.number}"
        return self.machine.run(
            "runuser", "-u", self.name, "--", "env", f"HOME=/home/{self.name}", place, *command, check=check
        )

    def write(self, path: str, content: str) -> None:
        """A file in the home that only this user may read."""
        self.machine.write(f"/home/{self.name}/{path}", content, 0o600)
        self.machine.run("chown", "-R", self.name, f"/home/{self.name}")


@contextmanager
def booted(haul: str = "checkout") -> Iterator[Machine]:
    """A machine that has booted, with haul from the ``"checkout"`` or with ``"nothing"``. Raises ``NoMachine``."""
    _check()
    directory = tempfile.mkdtemp(prefix="haul-machine-")  # ``boot`` removes it, whatever becomes of us
    notify = Path(directory, "notify")
    environment = {
        "PATH": os.environ["PATH"],
        "NOTIFY_SOCKET": str(notify),
        "HAUL": haul,
        "PYTHON_HOME": sys.base_prefix,
        "PACKAGES": sysconfig.get_path("purelib"),
    }
    with tempfile.TemporaryFile() as console:
        with _news(notify) as news:
            process = subprocess.Popen(
                [BOOT, directory],
                stdin=subprocess.PIPE,
                stdout=console,
                stderr=console,
                start_new_session=True,
                env=environment,
            )
            is_up = _wait_until_up(process, news)
        try:
            if is_up:
                yield Machine(_leader(process.pid))
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(PATIENCE)
        if not is_up:
            console.seek(0)
            raise NoMachine(f"systemd did not boot: {console.read().decode(errors='replace').strip()[-1000:]}")


class Bridge:
    """Leads from a port of the machine's loopback to a server out here. At first at most ``room`` bytes of answers pass."""

    def __init__(self, machine: Machine, host: str, port: int, room: float) -> None:
        self._listener = _listener_within(machine)
        self._server = (host, port)
        self._room = room
        self._open = asyncio.Event()
        self._connections: set[asyncio.Task[Any]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.port: int = self._listener.getsockname()[1]
        self.full = threading.Event()
        """Set when the server has answered as much as may pass."""

    def open(self) -> None:
        """From now on everything passes."""
        self._loop.call_soon_threadsafe(self._open.set)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Bridge]:
        """Serve; connections that are left at the end are cut."""
        self._loop = asyncio.get_running_loop()
        async with await asyncio.start_server(self._connect, sock=self._listener):
            try:
                yield self
            finally:
                self._open.set()
                for writer in self._writers:
                    writer.transport.abort()
                await asyncio.gather(*self._connections)

    async def _connect(self, near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
        connection = asyncio.current_task()
        assert connection is not None
        self._connections.add(connection)
        far, to_far = await asyncio.open_connection(*self._server)
        self._writers |= {to_near, to_far}
        await asyncio.gather(self._ask(near, to_far), self._answer(far, to_near), return_exceptions=True)

    async def _ask(self, near: asyncio.StreamReader, to_far: asyncio.StreamWriter) -> None:
        with closing(to_far):
            while data := await near.read(READ):
                to_far.write(data)
                await to_far.drain()

    async def _answer(self, far: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
        with closing(to_near):
            while data := await far.read(READ):
                self._room -= len(data)
                if self._room < 0:
                    self.full.set()
                    await self._open.wait()
                to_near.write(data)
                await to_near.drain()


@contextmanager
def bridge(machine: Machine, host: str, port: int, room: float = math.inf) -> Iterator[Bridge]:
    """A bridge that serves."""
    made = Bridge(machine, host, port, room)
    with beside(made.serving, "bridge"):
        yield made


# --- inside --------------------------------------------------------------------------------------------------------


def _check() -> None:
    if os.geteuid() != 0:
        raise NoMachine("only root can boot a systemd of its own")
    missing = [
        name for name in ("systemd-nspawn", "dbus-daemon", "unshare", "setpriv", "nsenter", "make") if not shutil.which(name)
    ]
    if missing:
        raise NoMachine(f"{', '.join(missing)} not found; tests/support/provide-systemd installs what is needed")


@contextmanager
def _news(path: Path) -> Iterator[socket.socket]:
    """What systemd says of itself. It goes on saying it: it would wait for a socket that nobody reads, but not for none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(path))
        receiver.settimeout(0.1)
        yield receiver


def _wait_until_up(process: subprocess.Popen[bytes], news: socket.socket) -> bool:
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(TimeoutError):
            if b"READY=1" in news.recv(4096).splitlines():
                return True
    return False


def _leader(process: int) -> int:
    """The process 1 of the innermost process namespace below that process."""
    waiting = [process]
    while waiting:
        pid = waiting.pop()
        namespaces = re.findall(r"^NSpid:(.*)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)[0].split()
        if namespaces[-1] == "1" and Path(f"/proc/{pid}/comm").read_text().strip() == "systemd":
            return pid
        waiting += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    raise NoMachine("systemd ended as soon as it had booted")


def _listener_within(machine: Machine) -> socket.socket:
    """A socket that listens there. A socket stays in the network that the thread was in which made it."""

    def make() -> socket.socket:
        network = os.open(f"/proc/{machine.leader}/ns/net", os.O_RDONLY)
        try:
            if ctypes.CDLL(None, use_errno=True).setns(network, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
            return socket.create_server(("127.0.0.1", 0))
        finally:
            os.close(network)

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(make).result()
