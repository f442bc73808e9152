"""Which distributions, at which pinned versions, a target needs: read off the wheels themselves. Used by wheelhouse.

pip resolves markers for the interpreter it runs in, so a Linux machine would forget what macOS needs; this does not.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.parser import HeaderParser
from functools import cache
from importlib.resources import files
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mlxctl.errors import LaunchError
from mlxctl.launch.provision.target import Target
from mlxctl.launch.wheels import own_requirements

CONSTRAINTS = "constraints.txt"


@dataclass(frozen=True, slots=True)
class Need:
    """A distribution by its canonical name, with one of its extras ("": without any)."""

    name: str
    extra: str = ""


@cache
def pins() -> Mapping[str, str]:
    """Canonical name → the version that mlxctl is tested with."""
    lines = (files("mlxctl") / CONSTRAINTS).read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {canonicalize_name(name): version.strip() for name, version in pairs}


@cache
def pins_hash() -> str:
    """SHA-256 (hex) of the pins and of what mlxctl asks for: a wheelhouse filled under another one is stale."""
    lines = [*(f"{name}=={version}" for name, version in sorted(pins().items())), *own_requirements()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def pinned(name: str) -> str:
    """`name==version`. Raises LaunchError for a distribution that no constraint pins."""
    try:
        return f"{name}=={pins()[name]}"
    except KeyError as error:
        hint = f"this is a mistake in mlxctl: add {name} to {CONSTRAINTS}"
        raise LaunchError(f"no version of {name} is pinned", hint=hint) from error


def needs(requirements: Iterable[str], extra: str, target: Target) -> set[Need]:
    """What `requirements` of a distribution installed with `extra` mean on `target`. Raises LaunchError."""
    found: set[Need] = set()
    for requirement in map(Requirement, requirements):
        environment = {**target.markers, "extra": extra}
        if requirement.marker is not None and not requirement.marker.evaluate(environment):
            continue
        name = canonicalize_name(requirement.name)
        version = pinned(name).partition("==")[2]
        if not requirement.specifier.contains(version, prereleases=True):
            raise LaunchError(f"{requirement} is needed on {target}, but {version} is pinned")
        found |= {Need(name), *(Need(name, each) for each in requirement.extras)}
    return found


def wheel_requirements(wheel: Path) -> list[str]:
    """The requirements that a wheel states, markers included. Raises LaunchError for a file that is no wheel."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            (metadata,) = (name for name in archive.namelist() if _is_metadata(name))
            headers = HeaderParser().parsestr(archive.read(metadata).decode())
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise LaunchError(f"{wheel} is not a wheel") from error
    return headers.get_all("Requires-Dist") or []


def _is_metadata(name: str) -> bool:
    return name.endswith(".dist-info/METADATA") and name.count("/") == 1
