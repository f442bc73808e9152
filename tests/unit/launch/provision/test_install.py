"""The parts of the installer that runs on nodes; that it installs is shown on hosts, in test_provision."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlxctl.launch.provision import install

pytestmark = pytest.mark.unit

WHEEL = "a_b-1.0-py3-none-any.whl"
SHA256 = hashlib.sha256(b"content").hexdigest()


@pytest.fixture
def incoming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "incoming" / "token"
    folder.mkdir(parents=True)
    monkeypatch.setattr(install, "INCOMING", folder)
    return folder


def a_venv(home: Path, name: str, age_s: float = 0.0) -> Path:
    folder = home / "venvs" / name
    folder.mkdir(parents=True)
    marker = folder / "installed.json"
    marker.write_text("{}")
    os.utime(marker, (time.time() - age_s,) * 2)
    return folder


def test_a_wheel_that_was_sent_moves_to_its_place(tmp_path: Path, incoming: Path) -> None:
    (incoming / WHEEL).write_bytes(b"content")
    place = install.take(tmp_path, {"file": WHEEL, "sha256": SHA256})
    assert place == tmp_path / "wheels" / SHA256 / WHEEL and place.read_bytes() == b"content"
    assert list(incoming.iterdir()) == []


def test_a_wheel_that_was_there_is_checked_too(tmp_path: Path, incoming: Path) -> None:
    place = tmp_path / "wheels" / SHA256 / WHEEL
    place.parent.mkdir(parents=True)
    place.write_bytes(b"bit rot")
    with pytest.raises(install.Failed, match="arrived damaged"):
        install.take(tmp_path, {"file": WHEEL, "sha256": SHA256})
    assert not place.exists()


def test_a_wheel_that_did_not_come_is_named(tmp_path: Path, incoming: Path) -> None:
    with pytest.raises(install.Failed, match=f"{WHEEL} did not arrive"):
        install.take(tmp_path, {"file": WHEEL, "sha256": SHA256})


def test_a_requirement_pins_the_file_s_content_whatever_its_folder_is_called() -> None:
    line = install.requirement(Path("/Users/me/Library/Application Support/mlxctl/wheels") / SHA256 / WHEEL)
    folder = "file:///Users/me/Library/Application%20Support/mlxctl/wheels"
    assert line == f"a_b @ {folder}/{SHA256}/{WHEEL} --hash=sha256:{SHA256}\n"


def test_half_built_venvs_and_forgotten_files_go(tmp_path: Path) -> None:
    (tmp_path / "venvs" / ".building-1").mkdir(parents=True)
    old, new = tmp_path / "incoming" / "old", tmp_path / "incoming" / "new"
    for folder in (old, new):
        folder.mkdir(parents=True)
    os.utime(old, (1.0, 1.0))
    install.remove_leftovers(tmp_path)
    assert not (tmp_path / "venvs" / ".building-1").exists()
    assert (old.exists(), new.exists()) == (False, True)


def test_the_last_two_venvs_stay_and_the_wheels_of_the_newest(tmp_path: Path) -> None:
    newest = a_venv(tmp_path, "c")
    second, oldest = a_venv(tmp_path, "b", 60), a_venv(tmp_path, "a", 120)
    for name in ("kept", "gone"):
        (tmp_path / "wheels" / name).mkdir(parents=True)
    install.remove_old(tmp_path, newest, {"kept"})
    assert (newest.exists(), second.exists(), oldest.exists()) == (True, True, False)
    assert [path.name for path in (tmp_path / "wheels").iterdir()] == ["kept"]


def test_a_venv_that_something_runs_from_stays(tmp_path: Path) -> None:
    newest = a_venv(tmp_path, "c")
    a_venv(tmp_path, "b", 60)
    used = a_venv(tmp_path, "a", 120)
    (used / "python").symlink_to(sys.executable)
    (tmp_path / "wheels").mkdir()
    with subprocess.Popen([used / "python", "-c", "print(); input()"], stdin=-1, stdout=-1) as process:
        assert process.stdout is not None
        process.stdout.readline()
        install.remove_old(tmp_path, newest, set())
        process.communicate(b"\n")
    assert used.exists()


def test_a_full_disk_is_told_from_other_failures() -> None:
    full = f"OSError: [Errno 28] {os.strerror(errno.ENOSPC)}"
    assert "make room" in str(install.full_hint(full, Path("/home/me/venvs/x")))
    assert install.full_hint("ERROR: no such package", Path("/x/y")) is None
    assert install.last_line("a\nERROR: b\n\n") == "b"
    assert install.last_line("") == "it said nothing"
