"""A folder of wheels: what is found in it, what is refused, what is said when a wheel cannot be had."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxctl.errors import LaunchError, UsageError
from mlxctl.launch.provision import wheelhouse
from mlxctl.launch.provision.requirements import pins_hash
from mlxctl.launch.provision.target import Target
from mlxctl.launch.provision.wheelhouse import Choice, Manifest, Wheel

pytestmark = pytest.mark.unit

WHEEL = "a-1-py3-none-any.whl"


def choice(version: tuple[int, int] = (14, 0), pins: str | None = None, file: str = WHEEL) -> Choice:
    wheel = Wheel(file=file, sha256="0" * 64, size_bytes=3)
    return Choice(
        system="macos", version=version, machine="arm64", python=(3, 12), pins=pins or pins_hash(), wheels=(wheel,)
    )


def a_wheelhouse(folder: Path, *choices: Choice) -> Path:
    for each in choices:
        for wheel in each.wheels:
            (folder / wheel.file).write_bytes(b"abc")
    text = Manifest(choices=choices).model_dump_json(by_alias=True)
    (folder / "wheelhouse.json").write_text(text)
    return folder


def mac(major: int) -> Target:
    return Target("macos", (major, 0), "arm64", (3, 12))


def test_the_newest_wheels_that_run_there_are_chosen(tmp_path: Path) -> None:
    folder = a_wheelhouse(tmp_path, choice((14, 0)), choice((15, 0)), choice((26, 0)))
    found = wheelhouse.find(folder, mac(15))
    assert found is not None and found.version == (15, 0)
    assert wheelhouse.find(folder, mac(13)) is None


def test_wheels_chosen_for_another_mlxctl_do_not_count(tmp_path: Path) -> None:
    folder = a_wheelhouse(tmp_path, choice(pins="other"))
    assert wheelhouse.find(folder, mac(15)) is None
    assert wheelhouse.pythons_of(folder) == ()


def test_a_wheel_that_is_gone_or_cut_short_does_not_count(tmp_path: Path) -> None:
    folder = a_wheelhouse(tmp_path, choice())
    (folder / WHEEL).write_bytes(b"a")
    assert wheelhouse.find(folder, mac(15)) is None


def test_an_empty_folder_is_an_empty_wheelhouse(tmp_path: Path) -> None:
    assert wheelhouse.find(tmp_path, mac(15)) is None


@pytest.mark.parametrize("file", ["../../x.whl", ".hidden.whl", "a/b.whl", "a.txt"])
def test_a_manifest_that_names_files_elsewhere_is_refused(file: str, tmp_path: Path) -> None:
    text = Manifest(choices=(choice(),)).model_dump_json(by_alias=True).replace(WHEEL, file)
    (tmp_path / "wheelhouse.json").write_text(text)
    with pytest.raises(UsageError, match="was not written by this version"):
        wheelhouse.read_manifest(tmp_path)


def test_what_is_there_is_not_downloaded_again(tmp_path: Path) -> None:
    folder = a_wheelhouse(tmp_path, choice())
    said: list[str] = []
    assert wheelhouse.fill(folder, mac(14), said.append) == choice()
    assert said == []


def test_a_wheel_that_nobody_has_is_named_with_the_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(LaunchError, match=r"no wheels for macos-14\.0-arm64, Python 3\.12: No matching distribution"):
        wheelhouse.fill(tmp_path, mac(14), lambda _: None)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot fill"):
        wheelhouse.fill(tmp_path / "file" / "x", mac(14), lambda _: None)
