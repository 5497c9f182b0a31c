"""A real hauld in a process of its own, and what an outsider sees of it: its socket, its log, its files, its exit code."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from support.unmeasured import unmeasured

SCRIPTS = Path(sys.executable).parent
PATIENCE = 60.0
"""Seconds until something that does not happen is a failure."""


class Hauld:
    """One daemon below ``directory``: its configuration, ledger, mail and socket. Start it as often as needed. ``launcher``
    is a command that runs it, where it is to have less than the test has."""

    def __init__(self, directory: Path, accounts: Mapping[str, Mapping[str, Any]], **tables: Mapping[str, Any]) -> None:
        self.directory = directory
        self.config = directory / "haul.toml"
        self.socket = directory / "run" / "haul.sock"
        self.state = directory / "haul.db"
        self.mail = directory / "mail"
        self.launcher: list[str] = []
        self.lines: list[str] = []
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._ready = threading.Event()
        self._said_so = False
        directory.mkdir(parents=True, exist_ok=True)
        self.configure(accounts, **tables)

    def configure(self, accounts: Mapping[str, Mapping[str, Any]], **tables: Mapping[str, Any]) -> None:
        """Write the configuration; passwords go to files that only the owner may read."""
        whole: dict[str, Any] = {
            "daemon": {"state": str(self.state), "socket": str(self.socket), "log_level": "debug", **tables.get("daemon", {})},
            "store": {"path": str(self.mail), **tables.get("store", {})},
            "retry": {"initial": "0.1s", **tables.get("retry", {})},
        }
        lines = [line for name, table in whole.items() for line in (f"[{name}]", *_pairs(table))]
        for name, account in accounts.items():
            keys = dict(account)
            secret = self.directory / f"{name}.password"
            secret.write_text(str(keys.pop("password")) + "\n", "utf-8")
            secret.chmod(0o600)
            lines += [f"[accounts.{name}]", *_pairs({"password_file": str(secret), **keys})]
        self.config.write_text("\n".join(lines) + "\n", "utf-8")
        self.config.chmod(0o600)

    def configure_beside(self, name: str, accounts: Mapping[str, Mapping[str, Any]], more: str = "") -> Path:
        """Write a file of accounts beside the configuration, their keys as they are."""
        lines = [line for account, keys in accounts.items() for line in (f"[accounts.{account}]", *_pairs(keys))]
        path = self.directory / "accounts.d" / name
        path.parent.mkdir(mode=0o755, exist_ok=True)
        path.write_text("\n".join([*lines, more]) + "\n", "utf-8")
        path.chmod(0o600)
        return path

    # --- its life ---

    def start(self, *, environment: Mapping[str, str] | None = None, ready: bool = True) -> Hauld:
        """Start it, and wait until it says that it is ready."""
        self._ready.clear()
        self._said_so = False
        self._process = subprocess.Popen(
            [*self.launcher, SCRIPTS / "hauld", "run", "--config", self.config],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={**unmeasured(), **(environment or {})},
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()
        if ready and not self._ready.wait(PATIENCE):
            self.kill()
            raise AssertionError("hauld did not become ready:\n" + self.log())
        if ready and not self._said_so:
            raise AssertionError(f"hauld ended with exit code {self.wait()}:\n" + self.log())
        return self

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        """SIGKILL, and its exit code."""
        return self._end(signal.SIGKILL)

    def wait(self) -> int:
        """Wait until it ends by itself; its exit code."""
        assert self._process is not None
        code = self._process.wait(PATIENCE)
        self._finish()
        return code

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        assert self._process is not None
        return self._process.poll() is None

    def log(self) -> str:
        """All it has logged, over every start."""
        return "\n".join(self.lines)

    def peak_memory(self) -> int:
        """Its largest resident memory so far, in bytes (VmHWM, proc(5))."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024

    def __enter__(self) -> Hauld:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.stop()
        self._finish()

    # --- speaking to it ---

    def call(self, method: str, **params: Any) -> Any:
        """One call over the socket, spoken by hand; raises ``RuntimeError`` with the error object."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(str(self.socket))
            connection.sendall(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode() + b"\n")
            with connection.makefile("rb") as stream:
                reply = json.loads(stream.readline())
        if "error" in reply:
            raise RuntimeError(reply["error"])
        return reply["result"]

    def haulctl(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run ``haulctl`` against it, as a person would."""
        return subprocess.run(
            [SCRIPTS / "haulctl", "--socket", self.socket, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=options.pop("timeout", 4 * PATIENCE),
            env=options.pop("env", None) or unmeasured(),
            **options,
        )

    # --- what it stored ---

    def files(self) -> list[Path]:
        """Every message file."""
        found = (path for path in self.mail.rglob("*.haul,*") if path.parent.name in ("cur", "new"))
        return sorted(path for path in found if ".haul" not in path.parts)

    def stored(self, account: str) -> dict[str, dict[int, str]]:
        """What lies on disk of an account, see ``stored_below``."""
        return stored_below(self.mail / account)

    @property
    def bytes_staged(self) -> int:
        """Bytes of large messages that are in the stage."""
        stage = self.mail / ".haul" / "stage"
        return sum(path.stat().st_size for path in stage.glob("part-*") if path.suffix != ".mark")

    # --- inside ---

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            self.lines.append(line.rstrip("\n"))
            if "daemon.ready" in line:
                self._said_so = True
                self._ready.set()
        self._ready.set()

    def _end(self, number: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        code = self._process.wait(PATIENCE)
        self._finish()
        return code

    def _finish(self) -> None:
        if self._reader is not None:
            self._reader.join(PATIENCE)
        if self._process is not None and self._process.stderr is not None:
            self._process.stderr.close()


def stored_below(directory: Path) -> dict[str, dict[int, str]]:
    """What lies there: for every folder (by display path) its messages' SHA-256 by UID, read without haul."""
    folders: dict[str, dict[int, str]] = {}
    for sidecar in directory.rglob(".haul-folder"):
        messages = folders.setdefault("/".join(json.loads(sidecar.read_text("utf-8"))["path"]), {})
        for part in ("cur", "new"):
            for path in (sidecar.parent / part).iterdir():
                found = re.search(r"\.U(\d+)V\d+H", path.name)
                assert found is not None, f"{path} is not a name of haul's"
                assert int(found[1]) not in messages, f"UID {found[1]} is stored twice in {sidecar.parent}"
                messages[int(found[1])] = hashlib.sha256(path.read_bytes()).hexdigest()
    return folders


def _pairs(table: Mapping[str, Any]) -> Iterable[str]:
    """A table's keys as TOML; JSON's strings, numbers and lists are TOML's too."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield f"{key} = {{ {', '.join(_pairs(value))} }}"
        else:
            yield f"{key} = {json.dumps(value)}"
