"""Processes and ports of this machine, with real ones."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from mlxctl.errors import LaunchError
from mlxctl.launch import processes
from mlxctl.launch.processes import (
    ProcessId,
    boot_id,
    current_process,
    end,
    free_ports,
    is_alive,
    parse_boot_id,
    parse_stat,
    port_is_free,
    process_id,
)

pytestmark = pytest.mark.unit

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
HEADLESS = """
import ctypes, socket, threading, time
listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=time.sleep, args=(600,)).start()
print(listener.getsockname()[1], flush=True)
ctypes.CDLL(None).pthread_exit(None)
"""
# The form that sysctl is documented to print; unverified on a Mac.
MAC_BOOT_ID = "A4F7C2B1-93D0-4E58-8C66-0B7D5F2E1A39"

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts children that end with the test."""
    children = []

    def starter(*command: str) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(command or ("sleep", "600"), stdout=subprocess.PIPE)
        children.append(child)
        return child

    yield starter
    for child in children:
        child.kill()
        child.communicate()


def zombie(start: Start) -> subprocess.Popen[bytes]:
    """A child that has ended and that nobody has waited for."""
    child = start("true")
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    return child


def stubborn(start: Start) -> ProcessId:
    """A child that ignores SIGTERM already."""
    child = start(sys.executable, "-c", STUBBORN)
    assert child.stdout is not None
    child.stdout.readline()
    return process_id(child.pid)


def until_first_has_ended(pid: int) -> None:
    """Wait until the system shows the process as a zombie."""
    until_s = time.monotonic() + 10
    while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until_s
        time.sleep(0.01)


def test_this_process_is_alive() -> None:
    assert current_process().pid == os.getpid()
    assert is_alive(current_process())


def test_a_process_is_the_same_each_time_one_looks(start: Start) -> None:
    child = start()
    assert process_id(child.pid) == process_id(child.pid)


def test_a_process_that_was_waited_for_is_dead(start: Start) -> None:
    child = start()
    process = process_id(child.pid)
    child.kill()
    child.wait()
    assert not is_alive(process)


def test_a_zombie_is_dead(start: Start) -> None:
    assert not is_alive(process_id(zombie(start).pid))


def test_a_stopped_process_is_alive(start: Start) -> None:
    child = start()
    child.send_signal(signal.SIGSTOP)
    assert is_alive(process_id(child.pid))


def test_a_pid_that_was_reused_is_another_process(start: Start) -> None:
    now = process_id(start().pid)
    assert not is_alive(ProcessId(now.pid, now.start_time - 1))


def test_a_pid_of_nobody_is_an_error(start: Start) -> None:
    child = start("true")
    child.wait()
    with pytest.raises(LaunchError, match="is gone"):
        process_id(child.pid)


def test_ending_nothing_leaves_nothing() -> None:
    assert end([], 1.0) == ()


def test_a_process_that_heeds_term_is_ended_by_it(start: Start) -> None:
    child = start()
    assert end([process_id(child.pid)], 10.0) == ()
    assert child.wait() == -signal.SIGTERM


def test_a_process_that_ignores_term_is_killed(start: Start) -> None:
    process = stubborn(start)
    assert end([process], 0.05) == ()
    assert not is_alive(process)


def test_a_stopped_process_is_killed(start: Start) -> None:
    child = start()
    child.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED)  # before that, TERM would still end it
    assert end([process_id(child.pid)], 0.05) == ()
    assert child.wait() == -signal.SIGKILL


def test_several_are_ended_together(start: Start) -> None:
    started = [process_id(start().pid), stubborn(start), process_id(zombie(start).pid)]
    assert end(started, 0.05) == ()
    assert not any(is_alive(process) for process in started)


def test_a_process_with_the_same_pid_but_another_start_is_never_touched(start: Start) -> None:
    child = start()
    now = process_id(child.pid)
    assert end([ProcessId(now.pid, now.start_time + 1)], 0.05) == ()
    assert child.poll() is None


def test_a_process_that_cannot_be_ended_is_named(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    process = process_id(start().pid)
    monkeypatch.setattr(processes, "KILL_WAIT_S", 0.05)
    monkeypatch.setattr(os, "kill", refuse)  # another user's process: nothing that root could meet
    assert end([process], 0.05) == (process,)


def refuse(pid: int, number: int) -> None:
    raise PermissionError


def test_psutil_and_proc_agree_on_who_is_a_zombie(start: Start) -> None:
    for child in (start(), zombie(start)):
        seen = processes.look_up_by_psutil(child.pid)
        assert seen is not None
        assert seen.is_zombie != is_alive(process_id(child.pid))


def test_psutil_gives_a_process_one_start_time(start: Start) -> None:
    child = start()
    assert processes.look_up_by_psutil(child.pid) == processes.look_up_by_psutil(child.pid)


def test_psutil_knows_of_nobody_under_a_free_pid(start: Start) -> None:
    child = start("true")
    child.wait()
    assert processes.look_up_by_psutil(child.pid) is None


def test_a_process_name_with_parentheses_and_spaces_does_not_shift_the_fields() -> None:
    fields = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4200 20 21"
    sighting = parse_stat(f"17 (a) Z b) {fields}\n", 100)
    assert (sighting.start_time, sighting.is_zombie) == (42.0, False)


@pytest.mark.parametrize(("threads", "is_zombie"), [(1, True), (2, False)])
def test_a_process_is_no_zombie_before_its_last_thread_has_ended(threads: int, is_zombie: bool) -> None:
    fields = f"Z 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 {threads} 18 4200 20 21"
    assert parse_stat(f"17 (python) {fields}\n", 100).is_zombie is is_zombie


@pytest.mark.skipif(sys.platform != "linux", reason="ends a first thread as Linux does")
def test_a_process_that_listens_though_its_first_thread_has_ended_is_alive_and_can_be_ended(start: Start) -> None:
    child = start(sys.executable, "-c", HEADLESS)
    assert child.stdout is not None
    port = int(child.stdout.readline())
    until_first_has_ended(child.pid)
    process = process_id(child.pid)
    assert is_alive(process) and not port_is_free("127.0.0.1", port)
    assert end([process], grace_s=5) == ()
    assert not is_alive(process) and port_is_free("127.0.0.1", port)


def test_the_boot_id_is_a_uuid_and_stays() -> None:
    assert boot_id() == boot_id() == parse_boot_id(boot_id())


@pytest.mark.parametrize("text", [f"{MAC_BOOT_ID}\n", f"kern.bootsessionuuid: {MAC_BOOT_ID}\n"])
def test_the_boot_id_of_a_mac_is_read_from_sysctl(text: str) -> None:
    assert parse_boot_id(text) == MAC_BOOT_ID.lower()


@pytest.mark.parametrize("text", ["", "sysctl: unknown oid 'kern.bootsessionuuid'\n"])
def test_a_system_without_a_boot_id_is_an_error(text: str) -> None:
    with pytest.raises(LaunchError, match="no boot id"):
        parse_boot_id(text)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_a_port_is_free_until_somebody_listens(host: str) -> None:
    (port,) = free_ports(host, 1)
    assert port_is_free(host, port)
    with socket.create_server(("127.0.0.1", port)):
        assert not port_is_free(host, port)
    assert port_is_free(host, port)


def test_a_port_that_somebody_shares_is_taken_all_the_same() -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # as gRPC servers do
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert not port_is_free("127.0.0.1", other.getsockname()[1])


def test_a_port_whose_connections_have_just_closed_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        server.accept()[0].close()  # the server's side goes to TIME_WAIT
        client.close()
    assert port_is_free("127.0.0.1", port)


def test_free_ports_are_all_different() -> None:
    assert len(set(free_ports("127.0.0.1", 20))) == 20


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_a_host_that_is_not_this_machine_is_an_error(host: str) -> None:
    with pytest.raises(LaunchError, match=f"cannot listen on {host}"):
        port_is_free(host, 50100)
    with pytest.raises(LaunchError, match=f"cannot listen on {host}"):
        free_ports(host, 1)
