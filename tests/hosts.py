"""Bare machines to launch on: network namespaces with an sshd, a user and nothing else. Needs root. Used by ssh tests.

Each host is one process tree under `unshare`: own network, mounts, processes, host name. Its /etc, /home, /tmp, /run
and /root are its own and vanish with it, users included; it has no route out. A bridge joins the hosts, and the test
process has the bridge's own address.
"""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

import mlxctl
from mlxctl import paths
from mlxctl.profile import Node

REQUIRED = bool(os.environ.get("MLXCTL_REQUIRE_TEST_BED"))  # a machine that cannot hold the hosts fails the tests
PROGRAMS = ("/usr/sbin/sshd", "ip", "unshare", "nsenter", "useradd", "ssh-keygen", "ss", "tc", "bridge", "mount")
PREFIX = 24
FIRST_HOST = 11  # the bridge has .1
START_S = 20.0
OWN_FOLDERS = ("/home", "/tmp", "/var/tmp", "/run", "/root", "/dev/shm")
REPOSITORY = Path(mlxctl.__file__).resolve().parents[1]

_SETUP = r"""
set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs /mnt
mkdir /mnt/etc && cp -a /etc/. /mnt/etc/
i=0; for path in $VISIBLE; do i=$((i + 1)); mkdir /mnt/v$i; mount --rbind "$path" /mnt/v$i; done
mkdir /mnt/keys && cp "$KEYS"/host_key "$KEYS"/authorized_keys /mnt/keys/
mount --rbind /mnt/etc /etc
for folder in $OWN; do [ -d "$folder" ] && mount -t tmpfs -o mode=755 tmpfs "$folder"; done
chmod 1777 /tmp /var/tmp /dev/shm
i=0; for path in $VISIBLE; do i=$((i + 1)); mkdir -p "$path"; mount --move /mnt/v$i "$path"; done
hostname "$NAME"
ip link set lo up
mkdir -p /run/sshd /etc/hostkeys
cp /mnt/keys/host_key /etc/hostkeys/key && chmod 600 /etc/hostkeys/key
if [ "$USER_NAME" != root ]; then useradd -m -s /bin/bash -p '*' "$USER_NAME"; fi
home=$(getent passwd "$USER_NAME" | cut -d: -f6)
mkdir -p "$home/.ssh" && cp /mnt/keys/authorized_keys "$home/.ssh/" && chown -R "$USER_NAME" "$home/.ssh"
chmod 700 "$home/.ssh" "$home" && chmod 600 "$home/.ssh/authorized_keys"
umount -l /mnt
printf '%s\n' 'HostKey /etc/hostkeys/key' 'PidFile none' 'UsePAM no' 'PasswordAuthentication no' 'UseDNS no' \
    'PermitRootLogin yes' 'MaxStartups 100' 'Subsystem sftp internal-sftp' > /etc/sshd_test
exec 3>&-
sleep infinity & wait
"""


@dataclass(slots=True)
class Host:
    """One machine. `pid` is its first process, seen from outside."""

    name: str
    address: str
    user: str
    home: str
    link: str
    init: subprocess.Popen[bytes]
    pid: int = 0
    identity_file: Path = field(default_factory=Path)

    def run(self, script: str, *, check: bool = True) -> str:
        """What a shell script prints that root runs there, without SSH."""
        command = ["nsenter", "--target", str(self.pid), "--all", "sh", "-c", script]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert not check or done.returncode == 0, f"{self.name}: {script}: {done.stderr}"
        return done.stdout

    def until(self, script: str) -> None:
        """Wait until a shell script succeeds there."""
        self.run(f"for i in $(seq 500); do if {script}; then exit 0; fi; sleep 0.02; done; exit 1")

    def start_sshd(self) -> None:
        self.run("/usr/sbin/sshd -f /etc/sshd_test </dev/null >/dev/null 2>&1")
        self.until("ss -Hltn | grep -q ':22 '")

    def stop_sshd(self) -> None:
        """Nothing listens there any more, and open connections end."""
        self.run("kill -9 $(ps -eo pid=,comm= | awk '$2 ~ /^sshd/ {print $1}')", check=False)

    def new_host_key(self) -> None:
        """The machine was set up anew: it shows another key."""
        self.stop_sshd()
        self.run("rm /etc/hostkeys/key*; ssh-keygen -q -t ed25519 -N '' -f /etc/hostkeys/key")
        self.start_sshd()

    def refuse_keys(self) -> None:
        """Nobody may log in any more."""
        self.run(f"rm {self.home}/.ssh/authorized_keys")

    def hide(self, *programs: str) -> None:
        """Make `programs` (paths, as the host sees them) impossible to run."""
        for program in programs:
            self.run(f"mount --bind /dev/null {program}")

    def cut(self) -> None:
        """Pull the cable."""
        _ip("link", "set", self.link, "down")

    def isolate(self) -> None:
        """Packets between it and others that are isolated vanish; all reach the test process. Until `mend`."""
        _isolate(self.link, "on")

    def slow(self, bits_per_s: int) -> None:
        """Let no more than this through to it; with `mend`, everything again."""
        shape = ["tbf", "rate", str(bits_per_s), "burst", "32kb", "latency", "400ms"]
        subprocess.run(["tc", "qdisc", "replace", "dev", self.link, "root", *shape], check=True)

    def mend(self) -> None:
        subprocess.run(["tc", "qdisc", "del", "dev", self.link, "root"], check=False, capture_output=True)
        _isolate(self.link, "off")
        _ip("link", "set", self.link, "up")

    def processes(self) -> list[str]:
        """Command lines of everything that runs there, except what makes it a machine."""
        lines = [line.split(None, 2) for line in self.run("ps -eo pid=,stat=,args=").splitlines()]
        own = ("sleep infinity", "sh -c ps -eo", "ps -eo", "sshd:", "/usr/sbin/sshd")
        found = [(pid, command) for pid, state, command in lines if "Z" not in state and not command.startswith(own)]
        return [command for pid, command in found if pid != "1"]

    def listening(self) -> set[str]:
        """Where somebody listens, as address:port, except sshd."""
        found = {line.split()[3] for line in self.run("ss -Hltn").splitlines()}
        return {re.sub(r"\[::ffff:(.*)\]", r"\1", each) for each in found if not each.endswith(":22")}

    def ports(self) -> set[int]:
        """The ports of `listening`."""
        return {int(each.rpartition(":")[2]) for each in self.listening()}

    def files(self) -> set[str]:
        """Files in its home and temporary folders, except what came with the user."""
        found = self.run(f"find {self.home} /tmp /var/tmp /dev/shm -type f").splitlines()
        names = {name for name in found if "/.ssh/" not in name}
        return {name for name in names if Path(name).name not in (".bashrc", ".profile", ".bash_logout")}

    def traces(self) -> set[str]:
        """What of ours is there beyond files that are kept on purpose: processes, ports, temporary files."""
        temporary = {name for name in self.files() if not name.startswith(self.home)}
        return {*self.processes(), *(f"port {port}" for port in self.ports()), *temporary}

    def leftovers(self) -> set[str]:
        """Traces, but for the kernels that MLX compiles and keeps where it runs on a CPU."""
        return {trace for trace in self.traces() if not trace.startswith("/tmp/mlx/")}

    def node(self, **fields: Any) -> Node:
        """As a profile names it."""
        return Node(
            **{
                "name": self.name,
                "host": self.address,
                "user": self.user,
                "identity_file": self.identity_file,
                **fields,
            }
        )


@dataclass(frozen=True, slots=True)
class TestBed:
    """The hosts, and `home`: the home folder of somebody who may log in to each (HOME, ~/.ssh with config, key)."""

    __test__ = False

    hosts: tuple[Host, ...]
    home: Path
    address: str

    @property
    def environment(self) -> Mapping[str, str]:
        """For commands run by that somebody."""
        return {"HOME": str(self.home), "SSH_AUTH_SOCK": ""}

    def know(self, *hosts: Host) -> None:
        """Write the keys of `hosts` (default: all) into known_hosts."""
        known = self.home / ".ssh" / "known_hosts"
        for host in hosts or self.hosts:
            key = host.run("ssh-keygen -y -f /etc/hostkeys/key").split()
            with known.open("a") as file:
                file.write(f"{host.address} {key[0]} {key[1]}\n")

    def leftovers(self) -> set[str]:
        """Of all hosts."""
        return {trace for host in self.hosts for trace in host.leftovers()}

    def profile(self, name: str, nodes: Sequence[Node] = (), **fields: Any) -> str:
        """YAML of a profile of `nodes` (default: all hosts)."""
        chosen = nodes or [host.node() for host in self.hosts]
        written = [node.model_dump(mode="json", by_alias=True, exclude_unset=True) for node in chosen]
        return yaml.safe_dump({"name": name, **fields, "nodes": written}, sort_keys=False)


def missing() -> str | None:
    """Why this machine cannot hold test hosts; None if it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "test hosts need Linux and root"
    lacking = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"test hosts need {', '.join(lacking)} (Debian: openssh-server, iproute2)" if lacking else None


def require() -> None:
    """Skip the test where there can be no hosts; fail it where there must be."""
    reason = missing()
    if reason is not None:
        (pytest.fail if REQUIRED else pytest.skip)(reason)


@contextmanager
def bare_hosts(
    count: int, folder: Path, *, users: Sequence[str] = (), visible: Sequence[Path] = ()
) -> Iterator[TestBed]:
    """`count` hosts, up and reachable; all gone at the end. `folder` is scratch space.

    `users` log in (default: an ordinary user each; root is possible); `visible` folders of this machine are seen there
    too, at the same paths.
    """
    require()
    home = folder / "home"
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    identity = home / ".ssh" / "id_ed25519"
    _keygen(identity)
    with ExitStack() as stack:
        bridge, network = stack.enter_context(_bridge())
        hosts = []
        for index in range(count):
            user = users[index] if index < len(users) else f"user{index}"
            hosts.append(stack.enter_context(_host(index, user, bridge, network, identity, folder, visible)))
        for host in hosts:
            _until_set_up(host, network)
        yield TestBed(tuple(hosts), home, str(network[1]))
    if paths.HOME_VARIABLE in os.environ:  # the next hosts have the same addresses, other keys and links
        paths.known_hosts_file().unlink(missing_ok=True)
        paths.links_file().unlink(missing_ok=True)


@contextmanager
def _bridge() -> Iterator[tuple[str, ipaddress.IPv4Network]]:
    """A bridge on a network that nobody else has, claimed by its name."""
    for number in range(1, 250):
        name = f"mxbed{number}"
        if _ip("link", "add", name, "type", "bridge", check=False) == 0:
            break
    else:
        raise AssertionError("no bridge can be made")
    network = ipaddress.IPv4Network(f"10.213.{number}.0/{PREFIX}")
    try:
        _ip("addr", "add", f"{network[1]}/{PREFIX}", "dev", name)
        _ip("link", "set", name, "up")
        yield name, network
    finally:
        _ip("link", "del", name)


@contextmanager
def _host(
    index: int,
    user: str,
    bridge: str,
    network: ipaddress.IPv4Network,
    identity: Path,
    folder: Path,
    visible: Sequence[Path],
) -> Iterator[Host]:
    name = f"h{index}"
    keys = folder / name
    keys.mkdir()
    _keygen(keys / "host_key")
    shutil.copy(f"{identity}.pub", keys / "authorized_keys")
    link = f"{bridge}h{index}"
    own = [*OWN_FOLDERS, *([] if _inside(REPOSITORY, OWN_FOLDERS) else [str(REPOSITORY)])]
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "NAME": name,
        "USER_NAME": user,
        "KEYS": str(keys),
        "OWN": " ".join(own),
        "VISIBLE": " ".join(str(path) for path in visible),
    }
    flags = ["--mount", "--uts", "--ipc", "--net", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]
    init = subprocess.Popen(["unshare", *flags, "bash", "-c", _SETUP], env=environment, stderr=subprocess.PIPE)
    home = "/root" if user == "root" else f"/home/{user}"
    try:
        yield Host(name, str(network[FIRST_HOST + index]), user, home, link, init, identity_file=identity)
    finally:
        init.kill()
        init.communicate()
        _ip("link", "del", link, check=False)


def _until_set_up(host: Host, network: ipaddress.IPv4Network) -> None:
    """Plug `host` into the network and wait until its sshd answers."""
    bridge = host.link.rpartition("h")[0]
    until_s = time.monotonic() + START_S
    children = Path(f"/proc/{host.init.pid}/task/{host.init.pid}/children")
    while not host.pid:
        assert time.monotonic() < until_s and host.init.poll() is None, _said(host)
        host.pid = int((children.read_text().split() or ["0"])[0])
        time.sleep(0.01)
    _ip("link", "add", host.link, "type", "veth", "peer", "name", "eth0", "netns", str(host.pid))
    _ip("link", "set", host.link, "master", bridge, "up")
    host.run(f"ip addr add {host.address}/{network.prefixlen} dev eth0 && ip link set eth0 up")
    while not host.run("cat /etc/sshd_test 2>/dev/null", check=False):
        assert time.monotonic() < until_s and host.init.poll() is None, _said(host)
        time.sleep(0.02)
    host.start_sshd()


def _said(host: Host) -> str:
    host.init.kill()
    return f"{host.name} did not come up: {host.init.communicate()[1].decode()}"


def _keygen(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)], check=True)


def _ip(*arguments: str, check: bool = True) -> int:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
    return done.returncode


def _isolate(link: str, state: str) -> None:
    subprocess.run(["bridge", "link", "set", "dev", link, "isolated", state], check=True)


def _inside(path: Path, folders: Sequence[str]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)
