"""What doctor runs on a node: asks its system, listens where a worker would, dials where others listen.

Runs alone under the node's own Python: imports nothing of ours, writes nothing to disk, ends when its stdin does. One
JSON request a line on stdin, one JSON answer a line on stdout. A listener answers nobody without the token, which comes
in a request: 32 bytes first, then "p" is sent back, and "b" with a length is read to its end and answered by "b".
"""

from __future__ import annotations

import array
import errno
import fcntl
import hmac
import json
import os
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any

TIMEOUT_S = 5.0
COMMAND_TIMEOUT_S = 10.0
PINGS = 20
FIRST_BYTES = 1 << 20
LEAST_S = 0.1  # a transfer that takes less tells little
MOST_BYTES = 1 << 28
CHUNK = bytes(1 << 18)
_SIOCGIFCONF = 0x8912


def main() -> None:
    listeners: list[socket.socket] = []
    while line := sys.stdin.buffer.readline():
        request = json.loads(line)
        verb = request.pop("do")
        try:
            answer = VERBS[verb](**request)
            if verb == "listen":
                listeners += answer.pop("listeners")
        except OSError as error:
            answer = {"errno": error.errno or 0, "error": error.strerror or str(error) or type(error).__name__}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    os._exit(0)


def ask(commands: dict[str, dict[str, list[str]]], paths: list[str], home: str) -> dict[str, Any]:
    """What `commands` for this system (by sys.platform) print, what the files at `paths` hold, what time it is, and how
    many bytes are free where `home` is or would be.
    """
    outputs = {name: output(command) for name, command in commands.get(sys.platform, {}).items()}
    return {
        "time_s": time.time(),
        "system": sys.platform,
        "host_name": socket.gethostname(),
        "outputs": outputs,
        "files": {path: text(path) for path in paths},
        "interfaces": linux_interfaces() if sys.platform == "linux" else [],
        "free_bytes": shutil.disk_usage(existing(home)).free,
    }


def existing(path: str) -> str:
    """The nearest folder that is there."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def text(path: str) -> str:
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def linux_interfaces() -> list[dict[str, Any]]:
    """Interfaces with their IPv4 and IPv6 addresses."""
    addresses: dict[str, list[str]] = {name: [] for _, name in socket.if_nameindex()}
    for line in text("/proc/net/if_inet6").splitlines():
        packed, *_, name = line.split()
        addresses.setdefault(name, []).append(socket.inet_ntop(socket.AF_INET6, bytes.fromhex(packed)))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        buffer = array.array("B", bytes(1 << 14))
        request = struct.pack("iL", len(buffer), buffer.buffer_info()[0])
        used = struct.unpack("iL", fcntl.ioctl(any_socket.fileno(), _SIOCGIFCONF, request))[0]
    for start in range(0, used, 40):  # struct ifreq: a name of 16 bytes, then a sockaddr_in
        entry = buffer[start : start + 40].tobytes()
        addresses.setdefault(entry[:16].rstrip(b"\0").decode(), []).append(socket.inet_ntoa(entry[20:24]))
    return [
        {
            "name": name,
            "addresses": found,
            "wireless": os.path.isdir(f"/sys/class/net/{name}/wireless"),
        }
        for name, found in addresses.items()
    ]


def listen(host: str, port: int, tries: int, token: str) -> dict[str, Any]:
    """Listen on the first free of `tries` ports from `port` (0: any); says which were taken."""
    taken = []
    for candidate in range(port, port + tries):
        try:
            listener = bound(host, candidate)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            taken.append(candidate)
            continue
        thread = threading.Thread(target=serve, args=(listener, token.encode()), daemon=True)
        thread.start()
        return {"port": listener.getsockname()[1], "taken": taken, "listeners": [listener]}
    return {"port": None, "taken": taken, "listeners": []}


def bound(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


def serve(listener: socket.socket, token: bytes) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=answer_one, args=(connection, token), daemon=True).start()


def answer_one(connection: socket.socket, token: bytes) -> None:
    connection.settimeout(TIMEOUT_S)
    with closing(connection), suppress(OSError, EOFError):
        if not hmac.compare_digest(exactly(connection, len(token)), token):
            return
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(b"h")
        while kind := connection.recv(1):
            if kind == b"b":
                skip(connection, min(MOST_BYTES, struct.unpack("!Q", exactly(connection, 8))[0]))
            connection.sendall(kind)


def exactly(connection: socket.socket, count: int) -> bytes:
    parts = b""
    while len(parts) < count:
        part = connection.recv(count - len(parts))
        if not part:
            raise EOFError
        parts += part
    return parts


def skip(connection: socket.socket, count: int) -> None:
    while count > 0:
        part = connection.recv(min(count, len(CHUNK)))
        if not part:
            raise EOFError
        count -= len(part)


def dial(host: str, port: int, token: str, for_s: float) -> dict[str, Any]:
    """Connect to a listener; round-trip time, and bandwidth measured for about `for_s` (0: not). Raises OSError."""
    start_s = time.monotonic()
    with closing(socket.create_connection((host, port), timeout=TIMEOUT_S)) as connection:
        connect_s = time.monotonic() - start_s
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(token.encode())
        try:
            exactly(connection, 1)
            rtt_s = statistics.median(exchange(connection, b"p") for _ in range(PINGS))
            took_s, sent = bulk(connection, FIRST_BYTES if for_s else 1), FIRST_BYTES
            if took_s < for_s - LEAST_S:
                sent = min(MOST_BYTES, max(FIRST_BYTES, int(FIRST_BYTES * for_s / max(took_s, 1e-3))))
                took_s = bulk(connection, sent)
        except EOFError as error:
            raise OSError(errno.ECONNRESET, "something else than our probe listens there") from error
        local = connection.getsockname()[0]
    return {"connect_s": connect_s, "rtt_s": rtt_s, "bytes_per_s": sent / took_s, "local": local}


def exchange(connection: socket.socket, message: bytes) -> float:
    start_s = time.monotonic()
    connection.sendall(message)
    exactly(connection, 1)
    return time.monotonic() - start_s


def bulk(connection: socket.socket, count: int) -> float:
    """Seconds that `count` bytes take there, the answer included."""
    start_s = time.monotonic()
    connection.sendall(b"b" + struct.pack("!Q", count))
    left = count
    while left > 0:
        connection.sendall(CHUNK[: min(left, len(CHUNK))])
        left -= min(left, len(CHUNK))
    exactly(connection, 1)
    return time.monotonic() - start_s


VERBS: dict[str, Callable[..., dict[str, Any]]] = {"ask": ask, "listen": listen, "dial": dial}

if __name__ == "__main__":
    main()
