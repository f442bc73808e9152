"""A folder of wheels with their hashes, chosen per target. Filled by `mlxctl wheelhouse` and by provision.

DIR/wheelhouse.json     per target: what is installed there, in which version, from which file
DIR/*.whl
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

from packaging.utils import canonicalize_name, parse_wheel_filename
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mlxctl.errors import LaunchError, UsageError
from mlxctl.launch.provision.requirements import Need, needs, pinned, pins_hash, wheel_requirements
from mlxctl.launch.provision.target import Target
from mlxctl.launch.wheels import own_requirements

MANIFEST = "wheelhouse.json"
DOWNLOAD_TIMEOUT_S = 1800.0
_READ_BYTES = 1 << 20

FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*\.whl$", max_length=255)]


class Wheel(BaseModel):
    """One wheel of a target: `sha256` in hex."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    file: FileName
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size_bytes: Annotated[int, Field(ge=0)]

    @property
    def name(self) -> str:
        """The distribution's canonical name."""
        return str(parse_wheel_filename(self.file)[0])


class Choice(BaseModel):
    """What runs on one target, pip included. `pins` is the hash of the versions it was chosen for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    system: Literal["macos", "linux"]
    version: tuple[int, int]
    machine: str
    python: tuple[int, int]
    pins: str
    wheels: tuple[Wheel, ...]

    @property
    def target(self) -> Target:
        return Target(self.system, self.version, self.machine, self.python)


class Manifest(BaseModel):
    """The file wheelhouse.json."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    document: Literal["mlxctl.wheelhouse/1"] = Field(default="mlxctl.wheelhouse/1", alias="schema")
    choices: tuple[Choice, ...] = ()


def read_manifest(folder: Path) -> Manifest:
    """What is in the wheelhouse `folder`; nothing where there is none. Raises UsageError for what is no wheelhouse."""
    path = folder / MANIFEST
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Manifest()
    except ValidationError as error:
        hint = f"remove {path}, then fill the folder again: mlxctl wheelhouse {folder}"
        raise UsageError(f"{path} was not written by this version of mlxctl", hint=hint) from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error


def find(folder: Path, target: Target) -> Choice | None:
    """The wheels in `folder` for `target` and this mlxctl, the newest that run there; None if there are none."""
    fitting = [
        choice
        for choice in read_manifest(folder).choices
        if choice.pins == pins_hash() and target.can_use(choice.target) and _is_complete(folder, choice)
    ]
    return max(fitting, key=lambda choice: choice.version, default=None)


def pythons_of(folder: Path) -> tuple[tuple[int, int], ...]:
    """The Pythons that `folder` has wheels of this mlxctl's requirements for."""
    return tuple(choice.python for choice in read_manifest(folder).choices if choice.pins == pins_hash())


def fill(folder: Path, target: Target, say: Callable[[str], None]) -> Choice:
    """Have in `folder` what `target` needs, downloading what is not there; waits for another that does the same.

    Needs a package index. Raises LaunchError where a wheel cannot be had, UsageError for a folder of no use.
    """
    with _locked(folder):
        if (there := find(folder, target)) and there.target == target:
            return there
        say(f"finding wheels for {target}")
        with tempfile.TemporaryDirectory(prefix=".incoming-", dir=folder) as incoming:
            paths = _download_all(Path(incoming), target, say)
            wheels = tuple(_describe(path) for path in paths)
            for path in paths:
                path.replace(folder / path.name)
        parts = (target.system, target.version, target.machine, target.python)
        fields = dict(zip(("system", "version", "machine", "python"), parts, strict=True))
        choice = Choice(**fields, pins=pins_hash(), wheels=wheels)  # type: ignore[arg-type]
        _write(folder, choice)
        return choice


def _download_all(incoming: Path, target: Target, say: Callable[[str], None]) -> list[Path]:
    """Wheels of everything needed, found level by level: what a wheel needs is written in it."""
    todo = needs(own_requirements(), "", target)
    known: set[Need] = set()
    wheels: dict[str, Path] = {}
    while todo:
        missing = sorted({need.name for need in todo} - wheels.keys())
        if missing:
            say(f"downloading {len(missing)} wheels for {target}")
            wheels |= _download(incoming, missing, target)
        known |= todo
        found = (needs(wheel_requirements(wheels[need.name]), need.extra, target) for need in todo)
        todo = set().union(*found) - known
    return sorted(wheels.values())


def _download(incoming: Path, names: Sequence[str], target: Target) -> dict[str, Path]:
    requirements = [pinned(name) for name in names]
    options = ("--disable-pip-version-check", "--no-deps", "--progress-bar=off", "-q", f"--dest={incoming}")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", *options, *target.pip_options, *requirements],
        capture_output=True,
        text=True,
        timeout=DOWNLOAD_TIMEOUT_S,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode != 0:
        raise _no_wheel(done.stderr, target)
    paths = {canonicalize_name(parse_wheel_filename(path.name)[0]): path for path in incoming.glob("*.whl")}
    return {name: paths[name] for name in map(canonicalize_name, names)}


def _no_wheel(said: str, target: Target) -> LaunchError:
    errors = [line.removeprefix("ERROR: ") for line in said.splitlines() if line.startswith("ERROR: ")]
    reason = next(
        (line for line in errors if "No matching distribution" in line), errors[-1] if errors else said[-200:]
    )
    hint = (
        "another Python may have one (python: in the profile); without internet here, fill a folder elsewhere: "
        f"mlxctl wheelhouse DIR --platform {target.system}-{target.machine} --python {target.python_text}"
    )
    return LaunchError(f"no wheels for {target}: {' '.join(reason.split())}", hint=hint)


def _describe(path: Path) -> Wheel:
    return Wheel(file=path.name, sha256=sha256(path), size_bytes=path.stat().st_size)


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(_READ_BYTES):
            digest.update(part)
    return digest.hexdigest()


def _is_complete(folder: Path, choice: Choice) -> bool:
    def is_there(wheel: Wheel) -> bool:
        path = folder / wheel.file
        return path.is_file() and path.stat().st_size == wheel.size_bytes

    return all(is_there(wheel) for wheel in choice.wheels)


def _write(folder: Path, choice: Choice) -> None:
    """Add `choice` to the manifest; what was chosen for other versions of mlxctl goes, with its wheels."""
    before = read_manifest(folder).choices
    others = [each for each in before if each.target != choice.target and each.pins == choice.pins]
    manifest = Manifest(choices=(*others, choice))
    temporary = folder / f".{MANIFEST}.{os.getpid()}"
    temporary.write_text(manifest.model_dump_json(by_alias=True, indent=2) + "\n", encoding="utf-8")
    temporary.replace(folder / MANIFEST)
    for stale in _files(before) - _files(manifest.choices):
        (folder / stale).unlink(missing_ok=True)


def _files(choices: Sequence[Choice]) -> set[str]:
    return {wheel.file for choice in choices for wheel in choice.wheels}


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Only one process fills `folder` at a time; leftovers of one that was killed are removed."""
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for leftover in folder.glob(".incoming-*"):
                shutil.rmtree(leftover, ignore_errors=True)
            yield
    except OSError as error:
        raise UsageError(f"cannot fill {folder}: {error.strerror or error}") from error
