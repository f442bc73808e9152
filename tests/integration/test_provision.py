"""mlxctl on bare hosts, which have a Python, an sshd and no way out: installed, found again, refused, interrupted."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlxctl import __version__
from mlxctl.errors import LaunchError, MlxctlError, StoreFull, UsageError
from mlxctl.launch import wheels
from mlxctl.launch.provision import Installed, deliver, provision, require_equal_versions, targets_of, wheelhouse
from mlxctl.launch.ssh import Remote
from mlxctl.launch.wheels import Package, own_package
from tests.hosts import Host, TestBed, bare_hosts
from tests.wheelhouses import filled_wheelhouse, system_python

__all__ = ["filled_wheelhouse"]

pytestmark = pytest.mark.ssh

TIMEOUT_S = 10.0
WITHOUT_PIP = """
for folder in /usr/lib/python3*/ensurepip /usr/lib/python3/dist-packages/pip; do
    if [ -d $folder ]; then mount -t tmpfs tmpfs $folder; fi
done
"""
OLD_PYTHON = """#!/bin/sh
echo '{"path": "/usr/bin/python3", "real": "/usr/bin/python3.9", "version": [3, 9, 6], "implementation": "CPython",
"machine": "x86_64", "libc": "2.36", "macos": "", "lacks": [], "free_threaded": false}' | tr -d '\\n'
"""


@pytest.fixture(scope="module")
def kept_bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestBed]:
    """A host that several tests install on, one after the other; our folder has a space in its name, as on Macs."""
    with bare_hosts(1, tmp_path_factory.mktemp("bed")) as bed:
        bed.know()
        host = bed.hosts[0]
        host.run(WITHOUT_PIP)
        host.run(f"""sed -i '1i export MLXCTL_HOME="{host.home}/Application Support/mlxctl"' {host.home}/.bashrc""")
        yield bed


@pytest.fixture
def kept_host(kept_bed: TestBed, monkeypatch: pytest.MonkeyPatch) -> Host:
    return log_in_to(kept_bed, monkeypatch)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """A host that the test may spoil."""
    with bare_hosts(1, tmp_path) as bed:
        bed.know()
        bed.hosts[0].run(WITHOUT_PIP)
        yield log_in_to(bed, monkeypatch)


@pytest.fixture
def edit(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Change mlxctl's own files, as somebody who works on it does."""
    package = own_package()

    def to(content: str) -> None:
        changed = Package({**package.files, "mlxctl/edited.py": content.encode()})
        monkeypatch.setattr(wheels, "own_package", lambda: changed)

    return to


def log_in_to(bed: TestBed, monkeypatch: pytest.MonkeyPatch) -> Host:
    for name, value in bed.environment.items():
        monkeypatch.setenv(name, value)
    return bed.hosts[0]


async def connect(host: Host) -> Remote:
    return await Remote.connect(host.node(), accept_new_host_keys=False, timeout_s=TIMEOUT_S)


async def install(
    host: Host, folder: Path | None, heard: list[str] | None = None, *, python: str | None = None
) -> Installed:
    """Log in, provision, log out."""
    remote = await connect(host)
    say = [] if heard is None else heard
    try:
        return await provision(remote, host.node(python=python), wheelhouse=folder, report=say.append)
    finally:
        await remote.close()


async def refusal(host: Host, folder: Path, *, python: str | None = None) -> MlxctlError:
    with pytest.raises(MlxctlError) as caught:
        await install(host, folder, python=python)
    assert caught.value.node == "h0"
    return caught.value


def ours(host: Host) -> set[str]:
    """What we keep on the host, below our folder: venvs by name, and what was left of sending and building."""
    folders = f"'{host.home}/Application Support/mlxctl' || cd {host.home}/.local/state/mlxctl"
    found = host.run(f"{{ cd {folders}; }} && ls -d venvs/* venvs/.building* incoming/*", check=False)
    return set(found.split())


async def test_a_bare_host_runs_our_worker_after_one_call(kept_host: Host, filled_wheelhouse: Path) -> None:
    installed = await install(kept_host, filled_wheelhouse)
    require_equal_versions({"h0": installed})
    assert installed.mlxctl_version == __version__
    assert installed.home == f"{kept_host.home}/Application Support/mlxctl"
    remote = await connect(kept_host)
    command = [installed.python, "-m", "mlxctl", "worker", "--name", "x", "--host", "127.0.0.1", "--port", "0"]
    worker = await remote.start(command)
    assert "CERTIFICATE REQUEST" in (await worker.stdout.readline()).decode()
    worker.close_stdin()
    await worker.wait()
    await remote.close()


async def test_a_second_time_nothing_is_sent(kept_host: Host, filled_wheelhouse: Path) -> None:
    first = await install(kept_host, filled_wheelhouse)
    heard: list[str] = []
    assert await install(kept_host, None, heard) == first
    assert heard == [f"mlxctl {__version__} is there"]


async def test_a_changed_source_tree_is_installed_beside_and_only_it_is_sent(
    kept_host: Host, filled_wheelhouse: Path, edit: Callable[[str], None]
) -> None:
    before = await install(kept_host, filled_wheelhouse)
    edit("CHANGED = 1")
    heard: list[str] = []
    after = await install(kept_host, filled_wheelhouse, heard)
    assert after.python != before.python
    assert {line.partition(":")[0] for line in heard if line.startswith("sending")} == {"sending 1 wheels"}
    assert kept_host.run(f"'{after.python}' -c 'import mlxctl.edited as e; print(e.CHANGED)'") == "1\n"


async def test_the_last_two_are_kept_and_one_in_use(
    kept_host: Host, filled_wheelhouse: Path, edit: Callable[[str], None]
) -> None:
    oldest = await install(kept_host, filled_wheelhouse)
    kept_host.run(f"touch -d '3 hours ago' '{Path(oldest.python).parents[1]}/installed.json'")
    edit("CHANGED = 2")
    remote = await connect(kept_host)
    running = await remote.start([oldest.python, "-c", "input()"])
    second = await install(kept_host, filled_wheelhouse)
    edit("CHANGED = 3")
    third = await install(kept_host, filled_wheelhouse)
    names = {f"venvs/{Path(each.python).parents[1].name}" for each in (oldest, second, third)}
    assert ours(kept_host) == names
    running.close_stdin()
    await running.wait()
    await remote.close()


async def test_a_lost_connection_leaves_nothing_half_installed(
    kept_host: Host, filled_wheelhouse: Path, edit: Callable[[str], None]
) -> None:
    await install(kept_host, filled_wheelhouse)
    before = ours(kept_host)
    edit("CHANGED = 4")
    remote = await connect(kept_host)
    broken = asyncio.Event()

    def say(line: str) -> None:
        if line.startswith("installing"):
            broken.set()

    task = asyncio.create_task(provision(remote, kept_host.node(), wheelhouse=filled_wheelhouse, report=say))
    await broken.wait()
    await remote.close()
    with pytest.raises(LaunchError, match="node h0"):
        await task
    for _ in range(100):
        if not kept_host.processes():
            break
        await asyncio.sleep(0.05)
    assert kept_host.traces() == set()
    assert ours(kept_host) == before


async def test_a_connection_lost_while_sending_leaves_nothing(host: Host, filled_wheelhouse: Path) -> None:
    remote = await connect(host)

    def say(line: str) -> None:
        if line.startswith("sending"):
            remote.abort()

    with pytest.raises(LaunchError, match="node h0"):
        await provision(remote, host.node(), wheelhouse=filled_wheelhouse, report=say)
    for _ in range(100):
        if not host.processes():
            break
        await asyncio.sleep(0.05)
    assert (host.traces(), ours(host)) == (set(), set())


async def test_two_at_once_install_once(kept_host: Host, filled_wheelhouse: Path, edit: Callable[[str], None]) -> None:
    edit("CHANGED = 5")
    heard: list[str] = []
    first, second = await asyncio.gather(*(install(kept_host, filled_wheelhouse, heard) for _ in range(2)))
    assert first == second
    assert len([line for line in heard if line.startswith("installing")]) == 1
    assert "another mlxctl installs there: waiting" in heard


async def test_an_old_python_is_named_with_what_to_install(host: Host, filled_wheelhouse: Path) -> None:
    host.run(f"cat > /tmp/old <<'EOF'\n{OLD_PYTHON}EOF\nchmod 755 /tmp/old")
    host.run("for file in /usr/bin/python3.*[0-9]; do mount --bind /tmp/old $file; done")
    error = await refusal(host, filled_wheelhouse)
    assert error.message.startswith("no Python 3.11 or later there: /usr/bin/python3 is 3.9.6")
    assert "apt-get install python3" in str(error.hint) and "python:" in str(error.hint)


async def test_a_host_without_python_says_so(host: Host, filled_wheelhouse: Path) -> None:
    host.hide("/usr/bin/python3.11")
    error = await refusal(host, filled_wheelhouse)
    assert error.message == "no Python 3.11 or later there, nor an older one"


async def test_a_python_of_the_profile_that_is_not_there_is_named(host: Host, filled_wheelhouse: Path) -> None:
    error = await refusal(host, filled_wheelhouse, python="/opt/homebrew/bin/python3")
    assert error.message == "the profile's python, /opt/homebrew/bin/python3, is not there"


async def test_a_python_outside_the_path_is_found(host: Host) -> None:
    folder = f"{host.home}/.pyenv/versions/3.11.2/bin"
    host.run(f"mkdir -p {folder} && cp /usr/bin/python3.11 {folder}/python3")
    host.hide("/usr/bin/python3.11")
    heard: list[str] = []
    (target,) = await targets_of([host.node()], heard.append)
    assert target == system_python().target
    assert heard == [f"h0: {folder}/python3 ({target})"]


async def test_a_full_disk_is_named_before_anything_is_sent(host: Host, filled_wheelhouse: Path) -> None:
    host.run(f"mkdir -p {host.home}/.local && mount -t tmpfs -o size=50m,mode=777 tmpfs {host.home}/.local")
    error = await refusal(host, filled_wheelhouse)
    assert isinstance(error, StoreFull)
    assert f"on the disk of {host.home}/.local/state/mlxctl, which has 50 MiB" in error.message


async def test_a_disk_that_fills_up_meanwhile_leaves_nothing_half_installed(
    host: Host, filled_wheelhouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.run(f"mkdir -p {host.home}/.local && mount -t tmpfs -o size=250m,mode=777 tmpfs {host.home}/.local")
    monkeypatch.setattr(deliver, "SPARE_BYTES", -(1 << 40))
    error = await refusal(host, filled_wheelhouse)
    assert "No space left on device" in error.message
    assert error.hint == f"make room below {host.home}/.local/state/mlxctl/venvs on the node"
    assert ours(host) == set()


async def test_a_home_that_cannot_be_written_to_is_named(host: Host, filled_wheelhouse: Path) -> None:
    host.run(f"mkdir -m 755 {host.home}/.local")
    error = await refusal(host, filled_wheelhouse)
    assert error.message == f"{host.home}/.local there cannot be written to"


async def test_a_wheelhouse_without_wheels_for_the_node_says_how_to_fill_it(host: Host, tmp_path: Path) -> None:
    error = await refusal(host, tmp_path)
    target = system_python().target
    assert target is not None and isinstance(error, UsageError)
    platform = f"linux-{target.version[0]}.{target.version[1]}-{target.machine}"
    assert str(error.hint).endswith(f"mlxctl wheelhouse {tmp_path} --platform {platform} --python {target.python_text}")


async def test_a_wheel_that_is_not_what_was_downloaded_is_not_installed(
    host: Host, filled_wheelhouse: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "wheelhouse"
    shutil.copytree(filled_wheelhouse, folder)
    (choice,) = wheelhouse.read_manifest(folder).choices
    victim = folder / next(wheel.file for wheel in choice.wheels if wheel.name == "idna")
    content = bytearray(victim.read_bytes())
    content[1000] ^= 1
    victim.write_bytes(content)
    error = await refusal(host, folder)
    assert error.message == f"cannot install there: {victim.name} arrived damaged (its SHA-256 is another)"
    assert ours(host) == set()
