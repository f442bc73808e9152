"""What plain sh tells and does on a real host: looking, ending processes by pid and start time, holding a claim."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from mlxctl.launch import node_shell
from mlxctl.launch.processes import ProcessId, boot_id
from mlxctl.launch.ssh import Remote
from tests.hosts import Host, TestBed, bare_hosts

pytestmark = pytest.mark.ssh


@pytest.fixture(params=["root", "somebody"])
def bed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[TestBed]:
    with bare_hosts(1, tmp_path, users=[request.param]) as bed:
        for name, value in bed.environment.items():
            monkeypatch.setenv(name, value)
        bed.know()
        yield bed


@pytest.fixture
def host(bed: TestBed) -> Host:
    return bed.hosts[0]


@pytest.fixture
async def remote(host: Host) -> AsyncIterator[Remote]:
    remote = await Remote.connect(host.node(), accept_new_host_keys=False, timeout_s=10)
    yield remote
    await remote.close()


async def test_a_bare_node_tells_who_it_is(remote: Remote, host: Host) -> None:
    look = await node_shell.look(remote)
    assert (look.system, look.address, look.claim) == ("Linux", host.address, None)
    assert look.boot_id == boot_id()  # namespaces share the kernel's
    assert look.home == f"{host.home}/.local/state/mlxctl"


async def test_processes_are_ended_gently_or_not_and_a_later_one_with_the_pid_is_spared(
    remote: Remote, host: Host
) -> None:
    gentle = await remote.start(["sleep", "100"])
    stubborn = await remote.start(["sh", "-c", "trap '' TERM; exec sleep 102"])
    other = await remote.start(["sleep", "101"])
    reused = ProcessId(other.id.pid, other.id.start_time - 1)
    ended = await node_shell.end(remote, [gentle.id, stubborn.id, reused], 0.5)
    assert set(ended.ran) == {gentle.id, stubborn.id} and not ended.left
    assert host.processes() == ["sleep 101"]
    again = await node_shell.end(remote, [gentle.id, other.id], 0.5)
    assert again.ran == (other.id,) and host.processes() == []


async def test_a_claim_is_seen_renewed_and_gone_with_its_holder(remote: Remote, host: Host) -> None:
    keeper = await remote.start(node_shell.command("keep"))
    await keeper.write(node_shell.script() + b'- {"owner": "me"}\n')
    assert node_shell.value(await keeper.stdout.readline(), "taken") == "no"
    worker = await remote.start(["sleep", "100"])
    await keeper.write(f'{node_shell.shown(worker.id)} {{"owner": "me too"}}\n'.encode())
    await asyncio.sleep(0.2)
    claim = (await node_shell.look(remote)).claim
    assert claim is not None and claim.keeper_is_alive and claim.age_s <= 2
    assert (claim.text, claim.workers) == ('{"owner": "me too"}', (worker.id,))

    second = await remote.start(node_shell.command("keep"))
    await second.write(node_shell.script() + b"- {}\n")
    assert node_shell.value(await second.stdout.readline(), "taken") == "yes"
    assert await second.wait() == 1

    host.run(f"kill -STOP {worker.id.pid}")  # it would not see that its launcher is gone
    await remote.close()
    host.until("! pgrep -f 'sleep [1]00'")
    host.until("! pgrep -f 'kee[p]'")
    assert host.files() == set()


async def test_clearing_ends_what_a_dead_holder_left_behind(remote: Remote, host: Host) -> None:
    keeper = await remote.start(node_shell.command("keep"))
    worker = await remote.start(["sleep", "100"])
    await keeper.write(node_shell.script() + f"{node_shell.shown(worker.id)} {{}}\n".encode())
    assert node_shell.value(await keeper.stdout.readline(), "taken") == "no"
    host.run(f"kill -9 {keeper.id.pid}")
    claim = (await node_shell.look(remote)).claim
    assert claim is not None and not claim.keeper_is_alive
    ended = await node_shell.clear(remote, [], 0.5)
    assert ended.ran == (worker.id,) and not ended.left
    assert host.processes() == [] and host.files() == set()
