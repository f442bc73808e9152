"""SSH connections to real hosts: who is let in, what is run, what is said when something is wrong."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlxctl.errors import AuthenticationError, LaunchError
from mlxctl.launch.ssh import Remote
from mlxctl.paths import known_hosts_file
from mlxctl.profile import Node
from tests.hosts import Host, TestBed, bare_hosts

pytestmark = pytest.mark.ssh

TIMEOUT_S = 10.0


@pytest.fixture(params=["root", "somebody"])
def bed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[TestBed]:
    """One host, whose key nobody knows yet."""
    with bare_hosts(1, tmp_path, users=[request.param]) as bed:
        for name, value in bed.environment.items():
            monkeypatch.setenv(name, value)
        yield bed
    known_hosts_file().unlink(missing_ok=True)


@pytest.fixture
def host(bed: TestBed) -> Host:
    return bed.hosts[0]


async def connect(node: Node, *, accept: bool = False, timeout_s: float = TIMEOUT_S) -> Remote:
    return await Remote.connect(node, accept_new_host_keys=accept, timeout_s=timeout_s)


async def test_a_command_runs_and_its_status_and_output_come_back(bed: TestBed, host: Host) -> None:
    bed.know()
    remote = await connect(host.node())
    done = await remote.run("cat; echo problem >&2; exit 3", input=b"text", timeout_s=TIMEOUT_S)
    assert (done.exit_status, done.stdout, done.stderr) == (3, "text", "problem\n")
    assert (await remote.run(["printf", "%s", "a b'c"], timeout_s=TIMEOUT_S)).stdout == "a b'c"
    assert (remote.user, remote.local_address) == (host.user, bed.address)
    await remote.close()


async def test_a_command_that_takes_too_long_is_named(bed: TestBed, host: Host) -> None:
    bed.know()
    remote = await connect(host.node())
    with pytest.raises(LaunchError, match=r"node h0: no answer to a command in 0\.2 s"):
        await remote.run("sleep 5", timeout_s=0.2)
    await remote.close()


async def test_a_started_process_is_known_by_pid_and_ends_with_the_connection(bed: TestBed, host: Host) -> None:
    bed.know()
    host.run(f"echo 'echo a greeting' >> {host.home}/.bashrc")
    remote = await connect(host.node())
    process = await remote.start(["cat"])
    await process.write(b"line\n")
    assert await process.stdout.readline() == b"line\n"
    assert host.run(f"cat /proc/{process.id.pid}/comm") == "cat\n" and process.id.start_time > 0
    process.close_stdin()
    assert await process.wait() == 0
    await remote.start(["cat"])
    await remote.close()
    host.until("! pgrep -x cat")


async def test_a_file_arrives_whole_and_its_progress_is_told(bed: TestBed, host: Host, tmp_path: Path) -> None:
    bed.know()
    file = tmp_path / "file"
    file.write_bytes(bytes(range(256)) * 4096)
    told: list[tuple[int, int]] = []
    remote = await connect(host.node())
    await remote.put(file, "there", lambda done, total: told.append((done, total)))
    assert int(host.run(f"stat -c %s {host.home}/there")) == 1 << 20
    assert told[-1] == (1 << 20, 1 << 20)
    with pytest.raises(LaunchError, match="node h0: sending file failed: No such file"):
        await remote.put(file, "no/such/folder")
    await remote.close()


async def test_an_unknown_host_key_is_refused_with_the_line_that_adds_it(bed: TestBed, host: Host) -> None:
    with pytest.raises(AuthenticationError, match=f"node h0: the host key of {host.address} is not known: ssh-ed25519"):
        await connect(host.node())
    assert not known_hosts_file().exists()


async def test_a_new_host_key_is_accepted_when_asked_and_remembered(bed: TestBed, host: Host) -> None:
    await (await connect(host.node(), accept=True)).close()
    await (await connect(host.node())).close()
    assert known_hosts_file().read_text().startswith(f"{host.address} ssh-ed25519 ")
    assert not (bed.home / ".ssh" / "known_hosts").exists()


@pytest.mark.parametrize("accept", [False, True])
async def test_a_changed_host_key_is_refused_with_file_and_line(bed: TestBed, host: Host, accept: bool) -> None:
    known = bed.home / ".ssh" / "known_hosts"
    known.write_text("# hosts\nelsewhere ssh-ed25519 AAAA\n")
    bed.know()
    host.new_host_key()
    with pytest.raises(AuthenticationError, match=rf"is not the one in {known}:3; it now shows") as refused:
        await connect(host.node(), accept=accept)
    assert refused.value.hint is not None and f"ssh-keygen -f {known} -R '{host.address}'" in refused.value.hint


async def test_refused_keys_are_listed(bed: TestBed, host: Host) -> None:
    bed.know()
    host.refuse_keys()
    with pytest.raises(AuthenticationError, match=f"node h0: {host.user} may not log in at .*; tried: .*id_ed25519"):
        await connect(host.node())


async def test_a_key_file_that_is_not_there_is_named(bed: TestBed, host: Host, tmp_path: Path) -> None:
    bed.know()
    with pytest.raises(AuthenticationError, match=r"cannot use the key .*/none: No such file"):
        await connect(host.node(identity_file=tmp_path / "none"))


@pytest.fixture
def agent(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An agent that holds the key, whose file nobody can read without its passphrase any more."""
    socket = tmp_path / "agent"
    monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
    with subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL) as agent:
        while not socket.exists():
            time.sleep(0.01)
        subprocess.run(["ssh-add", "-q", host.identity_file], check=True)
        subprocess.run(["ssh-keygen", "-q", "-p", "-N", "phrase", "-f", host.identity_file], check=True)
        yield
        agent.terminate()


@pytest.mark.usefixtures("agent")
@pytest.mark.parametrize("named", [True, False])
async def test_a_key_that_only_the_agent_can_read_is_enough(bed: TestBed, host: Host, named: bool) -> None:
    bed.know()
    await (await connect(host.node() if named else Node(name="a", host=host.address, user=host.user))).close()


async def test_the_users_ssh_configuration_is_read(bed: TestBed, host: Host) -> None:
    bed.know()
    config = f"Host mini\n  HostName {host.address}\n  User {host.user}\n  IdentityFile {host.identity_file}\n"
    (bed.home / ".ssh" / "config").write_text(config)
    remote = await connect(Node(name="a", host="mini"))
    assert (await remote.run("whoami", timeout_s=TIMEOUT_S)).stdout == f"{host.user}\n"
    await remote.close()


async def test_a_host_behind_another_is_reached_through_it(bed: TestBed, host: Host) -> None:
    bed.know()
    config = f"Host inner\n  HostName 127.0.0.1\n  HostKeyAlias {host.address}\n  ProxyJump outer\n"
    config += f"Host outer\n  HostName {host.address}\nHost *\n  User {host.user}\n"
    (bed.home / ".ssh" / "config").write_text(config)
    remote = await connect(Node(name="a", host="inner"))
    done = await remote.run("echo $SSH_CONNECTION", timeout_s=TIMEOUT_S)
    assert done.stdout.split()[2] == "127.0.0.1" and remote.local_address is None
    await remote.close()


async def test_a_host_without_sshd_and_one_that_is_cut_off_are_told_apart(bed: TestBed, host: Host) -> None:
    bed.know()
    host.stop_sshd()
    with pytest.raises(LaunchError, match=f"node h0: cannot reach {host.address} port 22: Connection refused"):
        await connect(host.node())
    host.cut()
    with pytest.raises(LaunchError, match=f"node h0: no answer from {host.address} in 1 s"):
        await connect(host.node(), timeout_s=1.0)
