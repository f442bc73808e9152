"""What wheels must run on: operating system, architecture, Python. Pure; used by wheelhouses and provisioning."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mlxctl.errors import UsageError

MIN_PYTHON = (3, 11)
DEFAULT_VERSIONS = {"macos": (14, 0), "linux": (2, 35)}  # the oldest that mlx has wheels for
_OLDEST_MANYLINUX = 17
_LEGACY_MANYLINUX = ("manylinux2014", "manylinux2010", "manylinux1")
_TEXT = re.compile(r"(macos|linux)(?:-(\d+)(?:\.(\d+))?)?-(arm64|aarch64|x86_64)")
_PYTHON_TEXT = re.compile(r"3\.(\d+)")


@dataclass(frozen=True, slots=True)
class Target:
    """`version` is that of macOS, or of glibc on Linux; `python` is (3, minor). `machine` as the system calls it."""

    system: Literal["macos", "linux"]
    version: tuple[int, int]
    machine: str
    python: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.system}-{self.version[0]}.{self.version[1]}-{self.machine}, Python {self.python_text}"

    @property
    def python_text(self) -> str:
        return f"{self.python[0]}.{self.python[1]}"

    @property
    def platform_tags(self) -> tuple[str, ...]:
        """Platforms for pip, best first; for macOS pip itself adds the older ones."""
        if self.system == "macos":
            return (f"macosx_{self.version[0]}_{self.version[1]}_{self.machine}",)
        newest = self.version[1] if self.version[0] == 2 else 99
        numbered = [f"manylinux_2_{minor}_{self.machine}" for minor in range(newest, _OLDEST_MANYLINUX - 1, -1)]
        return (*numbered, *(f"{legacy}_{self.machine}" for legacy in _LEGACY_MANYLINUX), f"linux_{self.machine}")

    @property
    def pip_options(self) -> tuple[str, ...]:
        """Options that make `pip download` choose for this target rather than for the machine it runs on."""
        platforms = [option for tag in self.platform_tags for option in ("--platform", tag)]
        return ("--only-binary=:all:", "--implementation=cp", f"--python-version={self.python_text}", *platforms)

    @property
    def markers(self) -> Mapping[str, str]:
        """The environment that markers of requirements are evaluated in."""
        return {
            "os_name": "posix",
            "sys_platform": "darwin" if self.system == "macos" else "linux",
            "platform_system": "Darwin" if self.system == "macos" else "Linux",
            "platform_machine": self.machine,
            "platform_release": "",
            "platform_version": "",
            "platform_python_implementation": "CPython",
            "implementation_name": "cpython",
            "implementation_version": f"{self.python_text}.0",
            "python_version": self.python_text,
            "python_full_version": f"{self.python_text}.0",
        }

    def can_use(self, other: Target) -> bool:
        """Whether wheels chosen for `other` run here: the same but for an older system."""
        same = (self.system, self.machine, self.python) == (other.system, other.machine, other.python)
        return same and other.version <= self.version


def parse_target(platform: str, python: str) -> Target:
    """`macos-arm64`, `macos-15-arm64`, `linux-x86_64`, `linux-2.36-aarch64` (glibc) and `3.12`. Raises UsageError."""
    found, version = _TEXT.fullmatch(platform), _PYTHON_TEXT.fullmatch(python)
    if found is None:
        hint = "macos-arm64, macos-15-arm64, linux-x86_64 or linux-aarch64"
        raise UsageError(f"{platform!r} is no platform that we know", hint=hint)
    if version is None or (3, int(version[1])) < MIN_PYTHON:
        raise UsageError(f"{python!r} is no Python that we run on", hint="3.11 or later, for instance --python 3.12")
    system: Literal["macos", "linux"] = "macos" if found[1] == "macos" else "linux"
    machine = (
        {"arm64": "aarch64"}.get(found[4], found[4]) if system == "linux" else found[4].replace("aarch64", "arm64")
    )
    number = (int(found[2]), int(found[3] or 0)) if found[2] else DEFAULT_VERSIONS[system]
    return Target(system, number, machine, (3, int(version[1])))
