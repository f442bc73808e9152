"""A rank's life as a process: handshake on stdin and stdout as a worker's, then tasks until stdin ends.

The launcher (mlxctl/launch/ranks.py) reads JSON lines from stdout and writes them to stdin:

    rank: {"request": CSR}        launcher: {"certificate": …, "authority": …}
    rank: {"port": …}             launcher: {"join": {"rank": …, "addresses": …, "group": …, "timeout_s": …}}
    rank: {"answer": {…}}         launcher: {"task": "module:function", "arguments": {…}}, as often as it likes

An answer holds `result`, or the `error` that was raised by name with its `message` and `hint`. The end of stdin ends
the process, whatever it is doing. Called by the hidden verb `mlxctl rank`.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from typing import Any

from mlxctl.errors import LaunchError, MlxctlError
from mlxctl.stdin import read_line
from mlxctl.wire.threads import switch_quickly

log = logging.getLogger(__name__)


def run(name: str, host: str) -> None:
    """Be the rank that is certified as `name` and listens on `host`. Raises LaunchError, PortTaken."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    switch_quickly()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C in the terminal is the launcher's to handle
    from mlxctl.wire.identity import PrivateKey

    key = PrivateKey(name)
    _say({"request": key.request_pem.decode()})
    orders = _orders()
    certified = orders.get()
    identity = key.identity(certified["certificate"].encode(), certified["authority"].encode())

    from mlxctl.comm.communicator import Communicator  # imports mlx
    from mlxctl.comm.mesh import Endpoint

    try:
        endpoint = Endpoint(identity, host)
    except MlxctlError as error:
        _say({"error": error.message, "hint": error.hint})
        raise
    _say({"port": endpoint.port})
    join = orders.get()["join"]
    try:
        comm = Communicator.connect(identity=identity, endpoint=endpoint, **join)
    except MlxctlError as error:
        _say({"answer": _refusal(error)})
        raise
    _say({"answer": {"result": comm.rank}})
    while True:
        order = orders.get()
        _say({"answer": _done(order, comm)})


def task(name: str) -> Callable[..., Any]:
    """The function that "module:function" names. Raises LaunchError."""
    module, _, function = name.partition(":")
    try:
        found = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise LaunchError(f"no task {name!r}: {error}") from error
    if not callable(found):
        raise LaunchError(f"{name!r} is no task")
    return found  # type: ignore[no-any-return]  # a function, whatever it takes


def _done(order: dict[str, Any], comm: Any) -> dict[str, Any]:
    try:
        return {"result": task(order["task"])(comm, **order["arguments"])}
    except MlxctlError as error:
        return _refusal(error)
    except Exception as error:
        log.exception("the task failed")
        return {"error": "MlxctlError", "message": f"{type(error).__name__}: {error}", "hint": None}


def _refusal(error: MlxctlError) -> dict[str, Any]:
    return {"error": type(error).__name__, "message": error.message, "hint": error.hint}


def _orders() -> queue.SimpleQueue[dict[str, Any]]:
    """What the launcher writes. When it is gone, so are we: nobody is left to answer."""
    found: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def watch() -> None:
        while line := read_line(sys.stdin.fileno()):
            found.put(json.loads(line))
        os._exit(0)

    threading.Thread(target=watch, name="stdin", daemon=True).start()
    return found


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()
