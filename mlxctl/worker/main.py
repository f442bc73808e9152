"""A worker's life: handshake on stdin and stdout, serve until told to stop, orphaned, or out of lease.

The launcher reads two JSON lines from stdout, {"request": CSR} and {"port": …} or {"error": …, "hint": …}, and writes
one to stdin, {"certificate": …, "authority": …}, all PEM. From then on stdin stays open and silent: its end means that
the launcher is gone. Logs go to stderr. Called by the hidden verb `mlxctl worker`.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from mlxctl.awake import kept_awake
from mlxctl.errors import LaunchError, PortTaken
from mlxctl.stdin import read_line
from mlxctl.wire.identity import Identity, PrivateKey
from mlxctl.wire.service import OPTIONS, add_to_server
from mlxctl.wire.threads import switch_quickly

log = logging.getLogger(__name__)

FIRST_LEASE_S = 60.0  # from the start to the coordinator's first Lease call
STOP_TIMEOUT_S = 2.0  # nothing may keep a worker alive whose lease has run out


class Life:
    """Ends the process once: on request, when stdin ends, when the lease runs out."""

    def __init__(self) -> None:
        self._deadline_s = time.monotonic() + FIRST_LEASE_S
        self._over = threading.Event()

    def prolong(self, duration_s: float) -> None:
        self._deadline_s = time.monotonic() + duration_s

    def stop(self) -> None:
        self._over.set()

    def watch_stdin(self) -> None:
        """End at once when the launcher is gone: nobody is left to answer."""

        def watch() -> None:
            while os.read(sys.stdin.fileno(), 4096):
                pass
            if self._over.is_set():  # asked to stop before: ending already
                return
            log.warning("the launcher is gone: ending")
            os._exit(1)

        threading.Thread(target=watch, name="stdin", daemon=True).start()

    def wait(self) -> None:
        """Return when told to stop; raises LaunchError when the lease has run out."""
        while not self._over.wait(timeout=0.5):
            if time.monotonic() > self._deadline_s:
                raise LaunchError("no lease from the coordinator in time: ending")


def run(name: str, host: str, port: int, port_tries: int, store: Path, store_only: bool) -> None:
    """Serve as `name` on `host`, on the first free of `port_tries` ports from `port` (0: any). Raises PortTaken.

    Weights sent to this node lie in the folder `store`; `store_only`: act as a node that has no other copy of a model.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    switch_quickly()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C in the terminal is the launcher's to handle
    life = Life()
    signal.signal(signal.SIGTERM, lambda *_: life.stop())
    identity = _handshake(name)
    life.watch_stdin()

    # They import mlx: after the handshake, so that it costs no round trip.
    from mlxctl.worker.layer_store import LayerStore
    from mlxctl.worker.service import WorkerService
    from mlxctl.worker.weights import NodeWeights

    weights = NodeWeights(LayerStore(store), store_only=store_only)
    server = grpc.server(ThreadPoolExecutor(16, thread_name_prefix="grpc"), options=OPTIONS)
    add_to_server(WorkerService(identity, life.prolong, life.stop, weights), server)
    try:
        bound = _bind(server, identity, host, port, port_tries)
    except PortTaken as error:
        _say({"error": error.message, "hint": error.hint})
        raise
    server.start()
    _say({"port": bound})
    code = 0
    try:
        with kept_awake():
            life.wait()
    except LaunchError as error:
        log.error("%s", error)
        code = error.exit_code
    server.stop(grace=0.2).wait(STOP_TIMEOUT_S)
    logging.shutdown()
    os._exit(code)  # threads of gRPC and MLX may be in the middle of something; nothing of theirs is worth waiting for


def _handshake(name: str) -> Identity:
    key = PrivateKey(name)
    _say({"request": key.request_pem.decode()})
    line = read_line(sys.stdin.fileno())
    if not line:
        raise LaunchError("the launcher is gone")
    answer = json.loads(line)
    return key.identity(answer["certificate"].encode(), answer["authority"].encode())


def _bind(server: grpc.Server, identity: Identity, host: str, port: int, port_tries: int) -> int:
    credentials = identity.server_credentials()
    address = f"[{host}]" if ":" in host else host
    for candidate in range(port, port + port_tries):
        try:
            return int(server.add_secure_port(f"{address}:{candidate}", credentials))
        except RuntimeError:
            log.info("port %d on %s is taken", candidate, host)
    raise PortTaken(
        f"port {port} on {host} is taken" if port_tries == 1 else f"no free port from {port} on {host}",
        hint="set another grpc_port in the profile, or stop what listens there",
    )


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()
