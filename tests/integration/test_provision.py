"""mlxctl on bare hosts, which have a Python, an sshd and no way out: installed, found again, refused, interrupted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from mlxctl import __version__
from mlxctl.errors import LaunchError, StoreFull, UsageError
from mlxctl.launch.provision import installed_here, provision, require_equal_versions
from mlxctl.launch.ssh import Remote
from tests.hosts import Host, TestBed, bare_hosts
from tests.wheelhouses import filled_wheelhouse

__all__ = ["filled_wheelhouse"]

pytestmark = pytest.mark.ssh

TIMEOUT_S = 10.0


@pytest.fixture
def bed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestBed]:
    with bare_hosts(1, tmp_path) as bed:
        for name, value in bed.environment.items():
            monkeypatch.setenv(name, value)
        bed.know()
        yield bed


@pytest.fixture
def host(bed: TestBed) -> Host:
    return bed.hosts[0]


@pytest.fixture
async def remote(host: Host) -> AsyncIterator[Remote]:
    remote = await Remote.connect(host.node(), accept_new_host_keys=False, timeout_s=TIMEOUT_S)
    yield remote
    await remote.close()


async def test_a_bare_host_runs_our_worker_after_one_call(host: Host, remote: Remote, filled_wheelhouse: Path) -> None:
    heard: list[str] = []
    installed = await provision(remote, host.node(), wheelhouse=filled_wheelhouse, report=heard.append)
    assert installed.mlxctl_version == __version__
    require_equal_versions({"h0": installed})
    print(heard)
    done = await remote.run([installed.python, "-m", "mlxctl", "models", "--json"], timeout_s=60)
    assert "canary" in done.stdout, done.stderr
