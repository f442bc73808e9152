"""The script that looks at a node, run by this machine's own shell in home folders made for it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from mlxctl.errors import LaunchError
from mlxctl.launch.provision import look

pytestmark = pytest.mark.unit

VERSIONS = {"mlxctl": "1", "mlx": "2", "mlx-lm": "3"}


def looked(home: Path, python: str | None = None, venv: str = "v1", system: str | None = None) -> look.Look:
    """What the script says in the home folder `home`; `system` replaces what uname prints."""
    programs = home / "programs"
    programs.mkdir(exist_ok=True)
    if system is not None:
        (programs / "uname").write_text(f"#!/bin/sh\necho {system}\n")
        (programs / "uname").chmod(0o755)
    environment = {"HOME": str(home), "PATH": f"{programs}:/usr/bin:/bin"}
    script = b"echo 'Welcome, mlxctl user!'\n" + look.script(venv, python)
    done = subprocess.run(["/bin/sh", "-s"], input=script, capture_output=True, env=environment, check=True)
    return look.parse(done.stdout.decode(), done.stderr.decode())


def installed(home: Path, folder: str = ".local/state/mlxctl") -> Path:
    """A venv's marker and interpreter, as install.py leaves them."""
    venv = home / folder / "venvs" / "v1"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to("/bin/sh")
    (venv / "installed.json").write_text(json.dumps({"python": f"{venv}/bin/python", "versions": VERSIONS}) + "\n")
    return venv


def test_an_installation_is_found_and_nothing_else_is_looked_for(tmp_path: Path) -> None:
    venv = installed(tmp_path)
    seen = looked(tmp_path)
    assert seen.installed is not None
    assert (seen.installed.python, seen.installed.mlx_version) == (f"{venv}/bin/python", "2")
    assert seen.installed.home == f"{tmp_path}/.local/state/mlxctl"
    assert seen.pythons == ()


def test_on_macos_our_folder_is_where_macos_keeps_such_things(tmp_path: Path) -> None:
    installed(tmp_path, "Library/Application Support/mlxctl")
    seen = looked(tmp_path, system="Darwin")
    assert seen.installed is not None
    assert seen.home == f"{tmp_path}/Library/Application Support/mlxctl"


def test_an_installation_whose_python_has_gone_does_not_count(tmp_path: Path) -> None:
    venv = installed(tmp_path)
    (venv / "bin" / "python").unlink()
    (venv / "bin" / "python").symlink_to("/no/such/python")
    assert looked(tmp_path).installed is None


def test_a_python_of_the_profile_is_the_only_one_asked(tmp_path: Path) -> None:
    seen = looked(tmp_path, python="/bin/sh")
    assert (seen.pythons, seen.broken) == ((), ("/bin/sh",))


def test_a_python_of_the_profile_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert looked(tmp_path, python="~/no/python3").missing_python == f"{tmp_path}/no/python3"
    assert looked(tmp_path, python="python9.99").missing_python == "python9.99"


def test_pythons_of_pyenv_are_asked_once_each(tmp_path: Path) -> None:
    for version in ("3.11.9", "3.12.1"):
        folder = tmp_path / ".pyenv" / "versions" / version / "bin"
        folder.mkdir(parents=True)
        facts: dict[str, object] = {
            "path": str(folder),
            "real": version,
            "version": [3, 12, 1],
            "implementation": "CPython",
        }
        facts |= {"machine": "arm64", "libc": "", "macos": "15.0", "lacks": [], "free_threaded": False}
        (folder / "python3").write_text(f"#!/bin/sh\necho '{json.dumps(facts)}'\n")
        (folder / "python3").chmod(0o755)
    real = [python.real for python in looked(tmp_path).pythons]
    assert {"3.11.9", "3.12.1"} <= set(real)
    assert len(real) == len(set(real))


def test_wheels_and_space_are_counted(tmp_path: Path) -> None:
    wheel = tmp_path / ".local/state/mlxctl/wheels/abc/a-1-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    wheel.touch()
    seen = looked(tmp_path)
    assert seen.wheels == {"abc/a-1-py3-none-any.whl"}
    assert seen.space_bytes is not None and seen.space_bytes > 0
    assert seen.unwritable is None


def test_looking_changes_nothing(tmp_path: Path) -> None:
    looked(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["programs"]


def test_a_shell_that_does_not_run_it_is_named_by_what_it_said() -> None:
    with pytest.raises(LaunchError, match="it said: sh: not found"):
        look.parse("motd\n", "sh: not found\n")
