"""`mlxctl wheelhouse` as it is typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxctl.cli.main import run

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--platform", "macos-arm64"],
        ["--python", "3.12"],
        ["--for", "local", "--platform", "macos-arm64", "--python", "3.12"],
    ],
)
def test_what_the_wheels_are_for_must_be_said(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["wheelhouse", str(tmp_path), *options]) == 2
    assert "say what the wheels are for" in capsys.readouterr().err


def test_a_profile_of_this_machine_alone_needs_no_wheels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["wheelhouse", str(tmp_path), "--for", "local"]) == 2
    assert "every node of local is this machine" in capsys.readouterr().err
