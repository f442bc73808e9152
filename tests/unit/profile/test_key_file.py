"""The file with the API key: private, strong, made where it is missing."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from mlxctl.errors import UsageError
from mlxctl.profile.key_file import MIN_KEY_CHARS, read_key, serving_key

pytestmark = pytest.mark.unit

STRONG = "k" * MIN_KEY_CHARS


def key_file(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    path = folder / "a key"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_a_missing_file_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "key"
    key = serving_key(path)
    assert len(key) >= 2 * MIN_KEY_CHARS and read_key(path) == key == serving_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_two_made_keys_differ(tmp_path: Path) -> None:
    assert serving_key(tmp_path / "a") != serving_key(tmp_path / "b")


def test_a_client_makes_no_key(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_key(tmp_path / "key")
    assert not list(tmp_path.iterdir())


def test_the_key_is_the_line_in_the_file(tmp_path: Path) -> None:
    assert serving_key(key_file(tmp_path, f"{STRONG}\n".encode())) == STRONG


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602, 0o620])
def test_a_file_open_to_others_is_refused_with_the_line_that_mends_it(tmp_path: Path, mode: int) -> None:
    path = key_file(tmp_path, STRONG.encode(), mode)
    with pytest.raises(UsageError, match="other users") as caught:
        read_key(path)
    assert caught.value.hint == f"chmod 600 '{path}'"


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"two\nlines", b"\xff", "ü".encode(), b"a\x00b"])
def test_a_file_without_a_usable_key_is_refused_without_telling_it(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UsageError, match="api_key_file") as caught:
        read_key(key_file(tmp_path, content))
    assert "words" not in str(caught.value)


def test_a_weak_key_is_not_served_with(tmp_path: Path) -> None:
    path = key_file(tmp_path, STRONG[1:].encode())
    with pytest.raises(UsageError, match="15 characters") as caught:
        serving_key(path)
    assert STRONG[1:] not in str(caught.value) and "rm -f" in str(caught.value.hint)


def test_a_key_of_somebody_elses_service_may_be_short(tmp_path: Path) -> None:
    assert read_key(key_file(tmp_path, b"k")) == "k"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot make api_key_file"):
        serving_key(tmp_path / "file" / "key")
