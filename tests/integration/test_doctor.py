"""Doctor on real hosts, each with one thing wrong: the node and the mend are named, and nothing is changed there."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlxctl.cli.main import run
from mlxctl.launch import node_shell
from mlxctl.launch.claims import Claim, Holder
from mlxctl.launch.doctor import HERE, Finding, Report, diagnose
from mlxctl.launch.provision.steps import venv_name
from mlxctl.launch.ssh import Remote
from mlxctl.profile import Profile
from tests.hosts import Host, TestBed, bare_hosts

pytestmark = pytest.mark.ssh

TIMEOUT_S = 10.0


@pytest.fixture
def bed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestBed]:
    with bare_hosts(2, tmp_path) as bed:
        for name, value in bed.environment.items():
            monkeypatch.setenv(name, value)
        bed.know()
        yield bed


@pytest.fixture
def host(bed: TestBed) -> Host:
    """The one that has something wrong; the other is well."""
    return bed.hosts[0]


def profile_of(bed: TestBed, first: dict[str, Any] | None = None, **fields: Any) -> Profile:
    """Both hosts; `first` are fields of the first one's node."""
    nodes = (bed.hosts[0].node(**(first or {})), bed.hosts[1].node())
    return Profile(name="two", nodes=nodes, **fields)


async def report_of(bed: TestBed, first: dict[str, Any] | None = None, *, fix: bool = False, **fields: Any) -> Report:
    return await diagnose(profile_of(bed, first, **fields), lambda _: None, fix=fix)


def finding(report: Report, check: str, node: str = "h0") -> Finding:
    (found,) = (each for each in report.findings if (each.node, each.check) == (node, check))
    return found


def failed(report: Report, *, node: str = "h0") -> Finding:
    """The only failure there is."""
    failures = [each for each in report.findings if each.level == "fail"]
    assert [each.node for each in failures] == [node], failures
    assert failures[0].mend
    return failures[0]


async def connect(host: Host) -> Remote:
    return await Remote.connect(host.node(), accept_new_host_keys=False, timeout_s=TIMEOUT_S)


async def test_two_bare_hosts_that_are_well_pass_and_stay_as_they_were(bed: TestBed) -> None:
    before = [(host.files(), host.traces()) for host in bed.hosts]
    report = await report_of(bed)
    assert report.is_ok
    ends = {(link.source, link.target) for link in report.links}
    assert ends == {(HERE, "h0"), (HERE, "h1"), ("h0", "h1"), ("h1", "h0")}
    assert {link.interface for link in report.links if link.source != HERE} == {"eth0"}
    assert finding(report, "versions").detail == "mlxctl is not there yet: up installs it"
    assert [(host.files(), host.traces()) for host in bed.hosts] == before


async def test_a_name_that_nobody_knows(bed: TestBed) -> None:
    found = failed(await report_of(bed, {"host": "no-such-host.invalid"}))
    assert (found.check, found.detail) == ("resolve", "nobody knows the name no-such-host.invalid")


async def test_a_machine_without_ssh(bed: TestBed, host: Host) -> None:
    host.stop_sshd()
    found = failed(await report_of(bed))
    assert (found.check, found.detail) == ("tcp", "nothing listens on port 22")
    assert "Remote Login" in str(found.mend)


async def test_a_machine_that_is_off(bed: TestBed, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlxctl.launch.doctor.visit.TCP_TIMEOUT_S", 0.5)
    host.cut()
    found = failed(await report_of(bed))
    assert found.check == "tcp" and "is it on and awake? try: ping" in str(found.mend)
    host.mend()


async def test_a_host_key_that_has_changed(bed: TestBed, host: Host) -> None:
    host.new_host_key()
    found = failed(await report_of(bed))
    assert found.check == "host_key" and "ssh-keygen -f" in str(found.mend)


async def test_a_key_that_is_refused(bed: TestBed, host: Host) -> None:
    host.refuse_keys()
    report = await report_of(bed)
    found = failed(report)
    assert found.check == "login" and "ssh-copy-id" in str(found.mend)
    assert finding(report, "host_key").level == "ok"


async def test_a_machine_without_python(bed: TestBed, host: Host) -> None:
    host.hide("/usr/bin/python3.11")
    found = failed(await report_of(bed))
    assert found.check == "python" and "apt-get install python3" in str(found.mend)


async def test_a_machine_that_serves_somebody_else(bed: TestBed, host: Host) -> None:
    remote = await connect(host)
    claim = await Claim.take(remote, await node_shell.look(remote), Holder("eve@laptop", "prod"))
    found = failed(await report_of(bed))
    assert (found.check, found.detail) == ("claim", "it serves cluster prod of eve@laptop")
    await claim.release()
    await remote.close()


async def test_a_stale_claim_and_its_worker_are_named_and_fix_removes_them(bed: TestBed, host: Host) -> None:
    before = host.traces()
    remote = await connect(host)
    worker = await remote.start(["sleep", "1000"])
    folder = f"{host.home}/.local/state/mlxctl"
    lines = ["1:1", "0", node_shell.shown(worker.id), Holder("me@here", "old").to_json()]
    host.run(f"mkdir -p {folder} && cat > {folder}/claim <<'EOF'\n{chr(10).join(lines)}\nEOF")
    host.run(f"chown -R {host.user} {host.home}/.local")
    found = failed(await report_of(bed))
    assert found.check == "leftovers" and found.mend == "mlxctl doctor --fix"
    assert "of cluster old of me@here" in found.detail and "with 1 workers" in found.detail
    fixed = await report_of(bed, fix=True)
    assert finding(fixed, "leftovers").detail == "removed: a stale claim, 1 processes ended"
    assert (await report_of(bed)).is_ok and host.traces() == before
    await remote.close()


async def test_other_versions_than_here(bed: TestBed, host: Host) -> None:
    folder = f"{host.home}/.local/state/mlxctl/venvs/{venv_name(host.node())}"
    marker = {"python": "/usr/bin/python3", "versions": {"mlxctl": "0.1.0", "mlx": "0.1", "mlx-lm": "0.1"}}
    host.run(f"mkdir -p {folder}/bin && ln -s /usr/bin/python3 {folder}/bin/python")
    host.run(f"echo '{json.dumps(marker)}' > {folder}/installed.json")
    found = failed(await report_of(bed))
    assert found.check == "versions" and found.detail.startswith("mlx is 0.1 there and")


async def test_a_disk_that_is_full(bed: TestBed, host: Host) -> None:
    host.run(f"mkdir {host.home}/.local && mount -t tmpfs -o size=50m,mode=777 tmpfs {host.home}/.local")
    found = failed(await report_of(bed))
    assert (found.check, found.detail) == ("disk", "50 MiB free, installing needs 600 MiB")


async def test_a_folder_of_ours_that_cannot_be_written_to(bed: TestBed, host: Host) -> None:
    host.run(f"mkdir -m 755 {host.home}/.local")
    found = failed(await report_of(bed))
    assert found.check == "disk" and "chown -R" in str(found.mend)


async def test_more_memory_than_there_is(bed: TestBed) -> None:
    found = failed(await report_of(bed, {"memory_bytes": 1 << 50}))
    assert found.check == "memory" and found.detail.startswith("the profile gives it 1048576.0 GiB, it has")


async def test_a_port_that_is_taken(bed: TestBed, host: Host) -> None:
    remote = await connect(host)
    code = "import socket; s = socket.create_server(('0.0.0.0', 50100)); print('up', flush=True); input()"
    squatter = await remote.start(["python3", "-c", code])
    await squatter.stdout.readline()
    report = await report_of(bed, grpc_port=50100)
    found = failed(report)
    assert (found.check, found.detail) == ("ports", "50100 is taken")
    assert "ss -ltnp" in str(found.mend) and finding(report, "reach").level == "ok"
    assert (await report_of(bed)).is_ok  # a port that nobody asked for counts up
    squatter.close_stdin()
    await squatter.wait()
    await remote.close()


async def test_a_data_address_that_is_another_machine_s(bed: TestBed) -> None:
    found = failed(await report_of(bed, {"data_address": "10.254.254.254"}))
    assert found.check == "ports" and "it cannot listen on 10.254.254.254" in found.detail
    assert "set data_address" in str(found.mend)


async def test_two_nodes_that_do_not_reach_each_other(bed: TestBed) -> None:
    first, second = bed.hosts
    second.run(f"ip route add unreachable {first.address}")
    report = await report_of(bed)
    there, back = (finding(report, "reach", name) for name in ("h0", "h1"))
    assert (there.level, back.level) == ("fail", "fail")
    assert there.detail.startswith(f"from h1: {first.address} port 50100: No route to host")
    assert back.detail == f"from h0: no answer from {second.address} port 50101"
    assert "let TCP port 50101 in there" in str(back.mend)


async def test_a_machine_is_dialled_by_nobody_without_the_token(bed: TestBed, host: Host) -> None:
    """Between the checks, doctor's own listeners answer nobody else."""
    heard: list[bytes] = []

    def eavesdrop(line: str) -> None:
        if line.startswith("measuring links to h0"):
            with socket.create_connection((host.address, 50100), timeout=TIMEOUT_S) as stranger:
                stranger.sendall(b"?" * 32)
                heard.append(stranger.recv(1))

    await diagnose(profile_of(bed), eavesdrop)
    assert heard == [b""]


def test_the_command_says_what_to_mend_and_fails(
    bed: TestBed, host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host.refuse_keys()
    path = tmp_path / "two.yaml"
    path.write_text(bed.profile("two"))
    assert run(["doctor", str(path)]) == 1
    shown = capsys.readouterr().out
    assert "✗ h0: SSH login:" in shown and "mend: let it in with: ssh-copy-id" in shown
    assert "two: 1 to be mended before mlxctl up" in shown
    assert run(["doctor", str(path), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["ok"]) == ("mlxctl.doctor/1", False)
