"""Which of a node's Pythons to install with, or why none will do. Pure; used by provision and doctor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mlxctl.launch.provision.target import MIN_PYTHON, Target

NEWEST_PYTHON = (3, 14)  # the newest that all wheels exist for; a newer one is tried last


@dataclass(frozen=True, slots=True)
class Python:
    """An interpreter as it describes itself; `libc` and `macos` are versions, "" where they do not apply."""

    path: str
    real: str
    version: Sequence[int]
    implementation: str
    machine: str
    libc: str
    macos: str
    lacks: Sequence[str]
    free_threaded: bool

    @property
    def minor(self) -> tuple[int, int]:
        return (self.version[0], self.version[1])

    @property
    def target(self) -> Target | None:
        """What its wheels must run on; None where no wheels of ours exist (musl)."""
        system: Literal["macos", "linux"] = "macos" if self.macos else "linux"
        numbers = [int(part) for part in (self.macos or self.libc).split(".") if part.isdecimal()]
        if not numbers:
            return None
        second = 0 if system == "macos" else [*numbers, 0][1]
        return Target(system, (numbers[0], second), self.machine, self.minor)

    @property
    def fault(self) -> str | None:
        """Why it will not do; None if it will."""
        shown = ".".join(map(str, self.version))
        if self.minor < MIN_PYTHON:
            return f"{self.path} is {shown}"
        if self.implementation != "CPython" or self.free_threaded:
            kind = "free-threaded" if self.implementation == "CPython" else self.implementation
            return f"{self.path} is {kind} {shown}, for which there are no wheels"
        if self.lacks:
            return f"{self.path} ({shown}) lacks {', '.join(self.lacks)}"
        if self.target is None:
            return f"{self.path} ({shown}) is not built for glibc, so there are no wheels"
        if self.target.system == "macos" and self.machine != "arm64":
            return f"{self.path} ({shown}) is built for {self.machine}, not for Apple silicon"
        return None


def choose(pythons: Sequence[Python], preferred: Sequence[tuple[int, int]]) -> Python | None:
    """The one to install with: a version of `preferred` (earlier is better), else the newest that is not too new."""
    usable = [python for python in pythons if python.fault is None]

    def merit(python: Python) -> tuple[int, bool, tuple[int, int]]:
        rank = -preferred.index(python.minor) if python.minor in preferred else -len(preferred)
        return (rank, python.minor <= NEWEST_PYTHON, python.minor)

    return max(usable, key=merit, default=None)


def why_none(pythons: Sequence[Python], broken: Sequence[str], missing: str | None) -> str:
    """One line: what was found and why nothing of it will do."""
    wanted = f"Python {MIN_PYTHON[0]}.{MIN_PYTHON[1]} or later"
    if missing is not None:
        return f"the profile's python, {missing}, is not there"
    faults = [fault for python in pythons if (fault := python.fault)] + [f"{path} does not start" for path in broken]
    return f"no {wanted} there: {'; '.join(faults)}" if faults else f"no {wanted} there, nor an older one"


def mend(system: str) -> str:
    """How to get a Python there; `system` is what uname says."""
    install = "brew install python@3.13" if system == "Darwin" else "sudo apt-get install python3"
    return f"on the node: {install} (Python 3.11 or later), or name one in the profile: python: /path/to/python3"
