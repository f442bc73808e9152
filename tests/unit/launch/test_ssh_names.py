"""Names that complete what is typed, from the user's own ssh files."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxctl.launch.ssh_names import known_names

pytestmark = pytest.mark.unit


def test_aliases_and_known_hosts_are_offered_once_each(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(
        "Host mini1 mini2  # the pair\n  HostName 10.0.0.2\nHost *.local !x\nhost=studio\nInclude more/*\n"
    )
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "work").write_text('Host "laptop"\n')
    (tmp_path / "known_hosts").write_text(
        "mini1,10.0.0.2 ssh-ed25519 AAAA\n[10.0.0.3]:2222 ssh-ed25519 AAAA\n|1|abc=|def= ssh-ed25519 AAAA\n"
        "@revoked bad ssh-ed25519 AAAA\n# comment\n"
    )
    assert known_names(tmp_path) == ("mini1", "mini2", "studio", "laptop", "10.0.0.2", "10.0.0.3:2222")


def test_without_ssh_files_nothing_is_offered(tmp_path: Path) -> None:
    assert known_names(tmp_path) == ()


def test_files_that_include_each_other_end(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("Host a\nInclude config\n")
    assert known_names(tmp_path) == ("a",)
