"""This mlxctl as a wheel, made from the files it runs from, source tree or installed. Sent to nodes by provision."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import io
import tomllib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import mlxctl
from mlxctl.errors import LaunchError

FILE_NAME = f"mlxctl-{mlxctl.__version__}-py3-none-any.whl"
_DIST_INFO = f"mlxctl-{mlxctl.__version__}.dist-info"
_LEFT_OUT = ("canary/training", "canary/EVAL.md")  # what trained the built-in model: no node needs it
_EPOCH = (1980, 1, 1, 0, 0, 0)  # equal files give an equal wheel
_WHEEL = "Wheel-Version: 1.0\nGenerator: mlxctl\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@dataclass(frozen=True)
class Package:
    """The package's files, read once: name in the wheel → contents."""

    files: Mapping[str, bytes]

    @cached_property
    def hash(self) -> str:
        """SHA-256 (hex) of every name and content."""
        digest = hashlib.sha256()
        for name, content in sorted(self.files.items()):
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
        return digest.hexdigest()

    def wheel(self) -> bytes:
        """A wheel of these files; the same bytes whenever the files are the same."""
        records = "".join(f"{name},sha256={_record_hash(content)},{len(content)}\n" for name, content in self._sorted())
        record_name = f"{_DIST_INFO}/RECORD"
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in (*self._sorted(), (record_name, f"{records}{record_name},,\n".encode())):
                entry = zipfile.ZipInfo(name, _EPOCH)
                entry.external_attr = 0o644 << 16
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, content)
        return buffer.getvalue()

    def _sorted(self) -> list[tuple[str, bytes]]:
        return sorted(self.files.items())


@cache
def own_package() -> Package:
    """The files of the mlxctl that runs now; read once, so that all nodes get the same. Raises LaunchError."""
    return read_package(Path(mlxctl.__file__).parent)


def read_package(root: Path) -> Package:
    """The package in the folder `root`, with the metadata of the installed mlxctl. Raises LaunchError."""
    try:
        paths = [path for path in root.rglob("*") if _belongs(path.relative_to(root)) and path.is_file()]
        files = {f"mlxctl/{path.relative_to(root).as_posix()}": path.read_bytes() for path in paths}
    except OSError as error:
        raise LaunchError(f"cannot read mlxctl's own files: {error}") from error
    files[f"{_DIST_INFO}/METADATA"] = _metadata().encode()
    files[f"{_DIST_INFO}/WHEEL"] = _WHEEL.encode()
    return Package(files)


@cache
def own_requirements() -> tuple[str, ...]:
    """What mlxctl needs to run, markers included: from its pyproject.toml where it runs from a source tree, whose
    installed metadata may be older, else from its metadata. Raises LaunchError.
    """
    project = Path(mlxctl.__file__).parents[1] / "pyproject.toml"
    if project.is_file():
        return tuple(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"])
    try:
        lines = importlib.metadata.requires("mlxctl") or []
    except importlib.metadata.PackageNotFoundError as error:
        raise LaunchError("mlxctl runs without being installed, so what it needs is unknown") from error
    return tuple(line for line in lines if "extra ==" not in line)


def _belongs(path: Path) -> bool:
    hidden = any(part.startswith(".") or part == "__pycache__" for part in path.parts)
    return not hidden and path.suffix != ".pyc" and not path.as_posix().startswith(_LEFT_OUT)


def _metadata() -> str:
    lines = ["Metadata-Version: 2.1", "Name: mlxctl", f"Version: {mlxctl.__version__}", "Requires-Python: >=3.11"]
    return "\n".join([*lines, *(f"Requires-Dist: {line}" for line in own_requirements())]) + "\n"


def _record_hash(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
