"""`mlxctl init`: from hosts that somebody names to a profile that brings up a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlxctl.cli.main import run
from mlxctl.profile import load_profile
from tests.commands import mlxctl
from tests.hosts import TestBed, bare_hosts
from tests.pseudo_terminal import on_terminal
from tests.wheelhouses import filled_wheelhouse

__all__ = ["filled_wheelhouse"]


@pytest.fixture
def bed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestBed]:
    with bare_hosts(2, tmp_path) as bed:
        for name, value in bed.environment.items():
            monkeypatch.setenv(name, value)
        yield bed


@pytest.mark.ssh
def test_a_profile_of_bare_hosts_is_written_and_brought_up(
    bed: TestBed, tmp_path: Path, filled_wheelhouse: Path
) -> None:
    bed.know()
    path = tmp_path / f"init-{tmp_path.name[-12:].strip('_')}.yaml"
    hosts = [f"{host.user}@{host.address}" for host in bed.hosts]
    done = mlxctl("init", *hosts, "-o", str(path), environment=bed.environment)
    assert done.code == 0, done.stderr
    assert f"next: mlxctl doctor {path}" in done.stderr
    profile = load_profile(path)
    assert [(node.name, node.host) for node in profile.nodes] == [(host.name, host.address) for host in bed.hosts]
    up = mlxctl("up", str(path), "--wheelhouse", str(filled_wheelhouse), environment=bed.environment)
    try:
        assert up.code == 0, up.stderr
        doctor = mlxctl("doctor", str(path), environment=bed.environment)
        assert doctor.code == 0, doctor.stdout
    finally:
        down = mlxctl("down", profile.name, "--force", environment=bed.environment)
    assert down.code == 0, down.stderr


@pytest.mark.ssh
def test_a_host_that_cannot_be_used_is_named_and_nothing_is_written(
    bed: TestBed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bed.know(bed.hosts[0])
    first, second = (f"{host.user}@{host.address}" for host in bed.hosts)
    path = tmp_path / "two.yaml"
    assert run(["init", first, second, "-o", str(path)]) == 1
    said = capsys.readouterr().err
    assert f"{bed.hosts[1].address}: host key: the host key of {bed.hosts[1].address} is not known" in said
    assert "mend: " in said and f"nothing was written: {bed.hosts[1].address} cannot be used yet" in said
    assert not path.exists()
    assert run(["init", first, second, "-o", str(path), "--accept-new-host-keys"]) == 0
    assert len(load_profile(path).nodes) == 2


@pytest.mark.integration
def test_a_file_that_is_there_is_replaced_only_by_force(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("mine")
    assert run(["init", "localhost", "-o", str(path)]) == 2
    assert path.read_text() == "mine" and "--force replaces it" in capsys.readouterr().err
    assert run(["init", "localhost", "-o", str(path), "--force"]) == 0
    assert [node.host for node in load_profile(path).nodes] == ["localhost"]
    assert [each.name for each in tmp_path.iterdir()] == ["mine.yaml"]


@pytest.mark.integration
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-o", "{}/x.yaml"], "which hosts?"),
        (["a b", "-o", "{}/x.yaml"], "'a b' is not a host"),
        (["localhost", "-o", "{}"], "cannot be a file"),
        (["localhost", "-o", "{}/no/x.yaml"], "cannot be a file"),
        (["localhost", "-o", "{}/-x.yaml"], "the file's name is to be the cluster's"),
    ],
)
def test_what_cannot_be_written_is_one_line(arguments: list[str], said: str, tmp_path: Path) -> None:
    done = mlxctl("init", *(argument.format(tmp_path) for argument in arguments))
    assert done.code == 2 and said in done.stderr and not list(tmp_path.iterdir())


@pytest.mark.integration
def test_hosts_are_asked_for_on_a_terminal_and_completed(tmp_path: Path) -> None:
    path = tmp_path / "asked.yaml"
    with on_terminal("init", "-o", str(path), environment={"HOME": str(tmp_path)}) as screen:
        screen.expect("host 1:")
        screen.type("localh\t")
        screen.expect("localhost")
        screen.enter("")
        screen.expect("host 2:")
        screen.enter("")
        screen.expect("is written: 1 nodes")
        assert screen.exit_code() == 0
    assert [node.host for node in load_profile(path).nodes] == ["localhost"]
