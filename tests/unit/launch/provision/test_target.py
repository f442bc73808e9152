"""What wheels must run on, from what a user types or a node says."""

from __future__ import annotations

import pytest

from mlxctl.errors import UsageError
from mlxctl.launch.provision.target import Target, parse_target

pytestmark = pytest.mark.unit

MAC = Target("macos", (15, 0), "arm64", (3, 12))


@pytest.mark.parametrize(
    ("platform", "target"),
    [
        ("macos-arm64", Target("macos", (14, 0), "arm64", (3, 12))),
        ("macos-15-arm64", MAC),
        ("macos-15.0-aarch64", MAC),
        ("linux-x86_64", Target("linux", (2, 35), "x86_64", (3, 12))),
        ("linux-2.39-arm64", Target("linux", (2, 39), "aarch64", (3, 12))),
    ],
)
def test_a_platform_is_read_as_it_is_typed(platform: str, target: Target) -> None:
    assert parse_target(platform, "3.12") == target


@pytest.mark.parametrize(("platform", "python"), [("windows-x86_64", "3.12"), ("macos-arm64", "3.10"), ("", "")])
def test_what_we_do_not_run_on_is_refused_with_what_we_do(platform: str, python: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_target(platform, python)
    assert caught.value.hint


def test_pip_is_asked_for_the_target_not_for_the_machine_it_runs_on() -> None:
    options = MAC.pip_options
    assert "--python-version=3.12" in options and "macosx_15_0_arm64" in options
    linux = Target("linux", (2, 36), "x86_64", (3, 11)).platform_tags
    assert linux[:2] == ("manylinux_2_36_x86_64", "manylinux_2_35_x86_64")
    assert "manylinux2014_x86_64" in linux


def test_markers_are_those_of_the_target() -> None:
    assert (MAC.markers["sys_platform"], MAC.markers["python_version"]) == ("darwin", "3.12")


@pytest.mark.parametrize(
    ("other", "usable"),
    [
        (Target("macos", (14, 0), "arm64", (3, 12)), True),
        (Target("macos", (26, 0), "arm64", (3, 12)), False),
        (Target("macos", (15, 0), "arm64", (3, 13)), False),
        (Target("linux", (2, 35), "aarch64", (3, 12)), False),
    ],
)
def test_wheels_for_an_older_system_run_and_others_do_not(other: Target, usable: bool) -> None:
    assert MAC.can_use(other) is usable
