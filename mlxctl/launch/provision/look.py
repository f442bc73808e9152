"""What a node has: an installation of ours, Pythons, wheels, space; asked by one script. For provision and doctor."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from mlxctl.errors import LaunchError
from mlxctl.launch.provision.installed import Installed
from mlxctl.launch.provision.pythons import Python

COMMAND = ("/bin/sh", "-s")
_PREFIX = "mlxctl "
# Runs in any Python, however old: it only has to tell what it is.
FACTS = """
import json, os, platform, sys, sysconfig
lacks = []
for name in ("venv", "ssl", "zlib", "ctypes", "fcntl"):
    try:
        __import__(name)
    except ImportError:
        lacks.append(name)
print(json.dumps({
    "path": sys.executable, "real": os.path.realpath(sys.executable), "version": list(sys.version_info[:3]),
    "implementation": platform.python_implementation(), "machine": platform.machine(),
    "libc": platform.libc_ver()[1], "macos": platform.mac_ver()[0], "lacks": lacks,
    "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
}))
"""


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen. `installed` is None where the venv asked for is not there; the rest is then filled in.

    `wheels` are paths below `<home>/wheels`, each SHA-256/file. `unwritable` is a folder that we cannot write to.
    """

    home: str
    system: str
    installed: Installed | None = None
    pythons: tuple[Python, ...] = ()
    missing_python: str | None = None
    broken: tuple[str, ...] = ()
    wheels: frozenset[str] = frozenset()
    space_bytes: int | None = None
    unwritable: str | None = None


def script(venv: str, python: str | None) -> bytes:
    """The text to feed to COMMAND: looks for the venv of that name, else for `python`, or any Python if None."""
    settings = {"venv": venv, "python": python or "", "facts": FACTS}
    head = "".join(f"{name}={shlex.quote(value)}\n" for name, value in settings.items())
    return (head + _text()).encode()


def parse(output: str, said: str = "") -> Look:
    """The answer to `script`, whatever a shell's own greeting adds. Raises LaunchError; `said` is what stderr held."""
    lines = [line.removeprefix(_PREFIX).partition(" ") for line in output.splitlines() if line.startswith(_PREFIX)]
    by_key: dict[str, list[str]] = {}
    for key, _, value in lines:
        by_key.setdefault(key, []).append(value)
    if "home" not in by_key or "system" not in by_key:
        last = said.strip().splitlines()[-1:] or ["nothing"]
        raise LaunchError(f"its shell did not run our script; it said: {last[0]}", hint="mlxctl needs /bin/sh there")
    space = by_key.get("space_kib", [""])[0]
    return Look(
        home=by_key["home"][0],
        system=by_key["system"][0],
        installed=Installed.from_json(by_key["installed"][0], by_key["home"][0]) if "installed" in by_key else None,
        pythons=_distinct(Python(**json.loads(text)) for text in by_key.get("python", [])),
        missing_python=by_key.get("missing", [None])[0],
        broken=tuple(by_key.get("broken", [])),
        wheels=frozenset(by_key.get("wheel", [])),
        space_bytes=int(space) * 1024 if space.isdecimal() else None,
        unwritable=by_key.get("unwritable", [None])[0],
    )


def _distinct(pythons: Iterable[Python]) -> tuple[Python, ...]:
    """Each once, however many names it has."""
    return tuple({python.real: python for python in reversed(list(pythons))}.values())[::-1]


@cache
def _text() -> str:
    return (files("mlxctl.launch.provision") / "look.sh").read_text(encoding="utf-8")
