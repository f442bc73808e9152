"""Makes a venv of ours on a node. Sent there by provision and run by the node's own Python: imports nothing of ours.

It is started before wheels arrive in its own folder. Then one JSON line comes in on stdin: {home, venv, wheels:
[{file, sha256}], distributions}. JSON lines go out: {"say": …} while it works, then {"done": marker} or {"error": …,
"hint": …}. The end of stdin, or TERM, before that means that nobody waits any more: what was begun is removed, and what
was sent. Below home:

    venvs/<venv>/installed.json     the marker of a whole venv: it is renamed into place with it
    wheels/<sha256>/<file>          what the newest venv was made of
    incoming/<token>/               this file, and what was just sent
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

KEPT_VENVS = 2
STALE_S = 3600.0  # a folder of incoming of this age belongs to nobody
INCOMING = Path(__file__).parent
LOCK_POLL_S = 0.2
MARKER = "installed.json"
# Also runs what would otherwise fail in the middle of a bring-up: libraries that the system lacks.
CHECK = """
import importlib.metadata, json, sys
import grpc, mlx.core, mlxctl.worker.service
print(json.dumps({name: importlib.metadata.version(name) for name in sys.argv[1:]}))
"""


class Failed(Exception):
    """Why there is no venv, and what to do about it."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class Work:
    """Commands that end when nobody waits for them any more."""

    def __init__(self) -> None:
        self._gone = threading.Event()
        self._child: subprocess.Popen[str] | None = None

    def watch(self) -> None:
        """Notice the end of stdin, or a signal to end."""
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop())
        threading.Thread(target=self._wait_for_end, name="stdin", daemon=True).start()

    def check(self) -> None:
        """Raise Failed if nobody waits any more."""
        if self._gone.is_set():
            raise Failed("interrupted")

    def run(self, *command: str | Path) -> tuple[int, str, str]:
        """Exit status, stdout and stderr of `command`. Raises Failed if nobody waits for it any more."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
        self.check()
        pipe = subprocess.PIPE
        self._child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, env=environment
        )
        if self._gone.is_set():
            self._child.kill()
        stdout, stderr = self._child.communicate()
        self.check()
        return self._child.returncode, stdout, stderr

    def _wait_for_end(self) -> None:
        while os.read(0, 4096):
            pass
        self._stop()

    def _stop(self) -> None:
        self._gone.set()
        if self._child is not None:
            self._child.kill()


def say(**message: Any) -> None:
    with suppress(BrokenPipeError):
        print(json.dumps(message), flush=True)


def install(order: dict[str, Any], work: Work) -> dict[str, Any]:
    """The marker of the venv that `order` asks for, made unless it is there. Raises Failed, OSError."""
    home = Path(order["home"])
    folder = home / "venvs" / order["venv"]
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(folder.parent / ".lock", work):
        if (folder / MARKER).is_file() and os.access(folder / "bin/python", os.X_OK):
            return dict(json.loads((folder / MARKER).read_text()))
        remove_leftovers(home)
        wheels = [take(home, wheel) for wheel in order["wheels"]]
        building = folder.with_name(f".building-{secrets.token_hex(4)}")
        try:
            marker = build(building, folder, wheels, order, work)
            shutil.rmtree(folder, ignore_errors=True)  # one whose Python has gone
            building.rename(folder)
        finally:
            shutil.rmtree(building, ignore_errors=True)
        remove_old(home, folder, {wheel["sha256"] for wheel in order["wheels"]})
        return marker


@contextmanager
def locked(path: Path, work: Work) -> Iterator[None]:
    """Only one installs here at a time, whoever sent it."""
    with path.open("w") as lock:
        told = False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    say(say="another mlxctl installs there: waiting")
                told = True
                work.check()
                time.sleep(LOCK_POLL_S)
        yield


def take(home: Path, wheel: dict[str, str]) -> Path:
    """The wheel's place, its content checked; moved there if it was sent."""
    place = home / "wheels" / wheel["sha256"] / wheel["file"]
    sent = INCOMING / wheel["file"]
    if sent.is_file() and not place.is_file():
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        sent.replace(place)
    if not place.is_file():
        raise Failed(f"{wheel['file']} did not arrive", "run mlxctl up again")
    with place.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != wheel["sha256"]:
        place.unlink()
        raise Failed(f"{wheel['file']} arrived damaged (its SHA-256 is another)", "run mlxctl up again")
    return place


def build(building: Path, final: Path, wheels: Sequence[Path], order: dict[str, Any], work: Work) -> dict[str, Any]:
    """A whole venv in `building`, with the marker it will have in `final`."""
    say(say="making a virtual environment")
    venv.EnvBuilder(symlinks=True, with_pip=False).create(building)
    python = building / "bin/python"
    say(say=f"installing {len(wheels)} packages")
    requirements = building / "requirements.txt"
    requirements.write_text("".join(map(requirement, wheels)))
    (pip,) = (wheel for wheel in wheels if wheel.name.startswith("pip-"))
    # Byte code is made where it is needed, by the trial and the first start: all of it takes two thirds of the time.
    options = ("--isolated", "--no-index", "--no-deps", "--require-hashes", "--no-cache-dir", "--no-compile", "-q")
    command = (python, "-I", pip / "pip", "install", *options, "--disable-pip-version-check", "-r", requirements)
    status, _, stderr = work.run(*command)
    if status != 0:
        raise Failed(f"pip could not install: {last_line(stderr)}", full_hint(stderr, final))
    say(say="trying it")
    status, stdout, stderr = work.run(python, "-I", "-c", CHECK, *order["distributions"])
    if status != 0:
        raise Failed(f"what was installed does not start: {last_line(stderr)}")
    for script in (building / "bin").iterdir():  # their first lines name the folder it was made in
        if not script.name.startswith("python"):
            script.unlink()
    marker = {"python": str(final / "bin/python"), "versions": json.loads(stdout), "made_with": sys.executable}
    (building / MARKER).write_text(json.dumps(marker) + "\n")
    return marker


def requirement(wheel: Path) -> str:
    """The line that lets pip install this file and no other content."""
    name = wheel.name.partition("-")[0]
    return f"{name} @ file://{urllib.parse.quote(str(wheel))} --hash=sha256:{wheel.parent.name}\n"


def remove_leftovers(home: Path) -> None:
    """What killed installations left; the lock says that none is alive."""
    for folder in (home / "venvs").glob(".building-*"):
        shutil.rmtree(folder, ignore_errors=True)
    for folder in (home / "incoming").glob("*"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > STALE_S:
                shutil.rmtree(folder, ignore_errors=True)


def remove_old(home: Path, newest: Path, hashes: set[str]) -> None:
    """Keep the newest venvs and those that something runs from, and the wheels of the newest."""
    markers = [path / MARKER for path in (home / "venvs").iterdir() if (path / MARKER).is_file()]
    by_age = sorted((marker for marker in markers if marker.parent != newest), key=lambda path: path.stat().st_mtime)
    running = commands()
    for marker in by_age[: max(0, len(by_age) - (KEPT_VENVS - 1))]:
        if f"{marker.parent}/" not in running:
            shutil.rmtree(marker.parent, ignore_errors=True)
    for folder in (home / "wheels").iterdir():
        if folder.name not in hashes:
            shutil.rmtree(folder, ignore_errors=True)


def commands() -> str:
    """The command lines of all processes that we may see."""
    if sys.platform == "linux":
        return "\n".join(command_line(path) for path in Path("/proc").glob("[0-9]*/cmdline"))
    return subprocess.run(["ps", "-axww", "-o", "command="], capture_output=True, text=True, check=False).stdout


def command_line(path: Path) -> str:
    try:
        return path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("ERROR: ") if lines else "it said nothing"


def full_hint(text: str, folder: Path) -> str | None:
    return f"make room below {folder.parent} on the node" if os.strerror(errno.ENOSPC) in text else None


def main() -> int:
    result: dict[str, Any]
    order: dict[str, Any] = {}
    try:
        order = json.loads(sys.stdin.buffer.readline() or "{}")
        work = Work()
        work.watch()
        result = {"done": install(order, work)} if order else {"error": "nothing was ordered", "hint": None}
    except Failed as error:
        result = {"error": str(error), "hint": error.hint}
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        result = {"error": str(error), "hint": full_hint(str(error), Path(order["home"], "venvs")) if full else None}
    finally:
        shutil.rmtree(INCOMING, ignore_errors=True)
    say(**result)
    return "error" in result


if __name__ == "__main__":
    sys.exit(main())
