"""What each target needs, whatever machine asks."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from mlxctl.errors import LaunchError
from mlxctl.launch.provision.requirements import Need, needs, pinned, pins, wheel_requirements
from mlxctl.launch.provision.target import Target
from mlxctl.launch.wheels import own_requirements

pytestmark = pytest.mark.unit

MAC = Target("macos", (15, 0), "arm64", (3, 12))
LINUX = Target("linux", (2, 36), "x86_64", (3, 11))


def test_linux_gets_mlx_with_its_processor_backend_and_macos_without() -> None:
    assert Need("mlx", "cpu") in needs(own_requirements(), "", LINUX)
    assert {need for need in needs(own_requirements(), "", MAC) if need.name == "mlx"} == {Need("mlx")}


def test_an_extra_brings_what_it_asks_for() -> None:
    requirements = ['mlx-cpu==0.32.4; platform_system == "Linux" and extra == "cpu"', 'numpy>=2; extra == "dev"']
    assert needs(requirements, "cpu", LINUX) == {Need("mlx-cpu")}
    assert needs(requirements, "", LINUX) == set()


def test_everything_mlxctl_asks_for_is_pinned_within_its_bounds() -> None:
    assert {"mlx", "mlx-lm", "pip", "asyncssh"} <= {need.name for need in needs(own_requirements(), "", MAC)}
    assert pinned("mlx") == f"mlx=={pins()['mlx']}"


def test_a_requirement_without_a_pin_is_refused() -> None:
    with pytest.raises(LaunchError, match="no version of leftpad is pinned"):
        needs(["leftpad"], "", MAC)


def test_a_pin_outside_a_requirement_is_refused() -> None:
    with pytest.raises(LaunchError, match="mlx>=99 is needed on macos"):
        needs(["mlx>=99"], "", MAC)


def test_a_wheel_tells_what_it_needs(tmp_path: Path) -> None:
    wheel = tmp_path / "a.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("a-1.dist-info/METADATA", "Name: a\nRequires-Dist: b>=1\nRequires-Dist: c\n\nText\n")
        archive.writestr("a/_vendor/x-1.dist-info/METADATA", "Name: x\nRequires-Dist: no\n")
    assert wheel_requirements(wheel) == ["b>=1", "c"]


def test_a_file_that_is_no_wheel_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.whl").write_bytes(b"not a zip")
    with pytest.raises(LaunchError, match=r"a\.whl is not a wheel"):
        wheel_requirements(tmp_path / "a.whl")
