"""The coordinator's process: brings the cluster up, serves it, takes it down. Called by `mlxctl daemon`.

stdin carries one JSON line (a DaemonOrder) and stays open while the launcher is there; stdout carries events (see
mlxctl/launch/events.py) until the cluster is ready or has failed. A launcher that ends before that takes everything
down with it. A private cluster ends with its launcher at any time; another one goes on by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NoReturn

from mlxctl import paths
from mlxctl.api.app import Access, ServedModel, create_app
from mlxctl.awake import kept_awake
from mlxctl.checkpoint import resolve_model
from mlxctl.coordinator.connections import raise_descriptor_limit
from mlxctl.coordinator.control import create_control_app
from mlxctl.coordinator.engine import PipelineEngine
from mlxctl.coordinator.metrics import ClusterMetrics
from mlxctl.coordinator.serving import HttpServer, bind_api, bind_control
from mlxctl.coordinator.status import StatusBoard
from mlxctl.errors import Interrupted, LaunchError, MlxctlError
from mlxctl.launch.bringup import PHASES
from mlxctl.launch.daemon_process import DaemonOrder
from mlxctl.launch.events import Event, FailedEvent, PhaseEvent, ReadyEvent, Report, encode
from mlxctl.launch.launch import Launch
from mlxctl.launch.log_files import StderrFollows
from mlxctl.launch.phases import run_phases
from mlxctl.launch.state import ClusterLock, Phase, describe_launch, remove_state, write_state
from mlxctl.profile import Profile
from mlxctl.tokenizer import Tokenizer
from mlxctl.wire.threads import switch_quickly

log = logging.getLogger(__name__)

QUEUE_LIMIT_PER_LANE = 8
DRAIN_S = 5.0


class Daemon:
    """One cluster's life."""

    def __init__(self, order: DaemonOrder) -> None:
        self._order = order
        self._profile = Profile.from_json(order.profile_json)
        self._launch = Launch(
            self._profile,
            order.name,
            any_port=order.any_port,
            accept_new_host_keys=order.accept_new_host_keys,
            wheelhouse=Path(order.wheelhouse) if order.wheelhouse else None,
        )
        self._stop = asyncio.Event()
        self._drain_s = DRAIN_S
        self._ready = False
        self._began_s = time.monotonic()

    async def run(self) -> int:
        """The exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        watcher = asyncio.create_task(self._watch_launcher(), name="launcher")
        try:
            async with AsyncExitStack() as stack:
                await self._until_stopped(self._bring_up(stack))
                await self._stop.wait()
        except MlxctlError as error:
            log.error("%s", error)
            self._say(FailedEvent.of(error, self._log_tail(error)))
            return error.exit_code
        except OSError as error:
            log.exception("the system refused")
            what = f"{error.strerror or error}: {error.filename or paths.home()}"
            hint = f"free some space there, or set {paths.HOME_VARIABLE} to another folder"
            self._say(FailedEvent.of(LaunchError(what, hint=hint if error.errno == errno.ENOSPC else None)))
            return 1
        except Exception as error:
            log.exception("internal error")
            self._say(FailedEvent.of(LaunchError(f"internal error: {type(error).__name__}: {error}")))
            return 1
        finally:
            watcher.cancel()
        return 0

    async def _until_stopped(self, work: Coroutine[Any, Any, None]) -> None:
        """Await `work`, cancelled when the cluster is to stop first. Raises Interrupted then."""
        task, stop = asyncio.ensure_future(work), asyncio.create_task(self._stop.wait())
        await asyncio.wait((task, stop), return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            raise Interrupted("interrupted while the cluster was coming up; nothing of it is left")
        task.result()

    async def _bring_up(self, stack: AsyncExitStack) -> None:
        if self._order.any_port:
            stack.callback(shutil.rmtree, paths.cluster_dir(self._order.name), ignore_errors=True)
        stack.enter_context(ClusterLock(self._order.name))
        paths.profile_file(self._order.name).write_text(self._order.profile_json, encoding="utf-8")
        record = StateRecord(self._launch)
        stack.callback(record.remove)
        record.write("starting")
        api_key = self._profile.api.serving_key()
        api_socket = self._bind_api(stack)
        base_url = _base_url(api_socket)
        tokenizer = asyncio.create_task(asyncio.to_thread(_load_tokenizer, self._profile.model))
        stack.push_async_callback(_settle, tokenizer)
        await run_phases(PHASES, self._launch, self._report(record), stack)
        await self._serve(stack, api_socket, base_url, self._access(api_key), await tokenizer)
        stack.enter_context(kept_awake())
        record.write("ready", base_url)
        log.info("serving %s at %s/v1", self._profile.model, base_url)
        self._finish_bring_up()

    def _bind_api(self, stack: AsyncExitStack) -> socket.socket:
        api = self._profile.api
        asked_for = "port" in api.model_fields_set
        bound = bind_api(api.host, 0 if self._order.any_port else api.port, asked_for=asked_for)
        stack.callback(bound.close)
        return bound

    def _access(self, api_key: str | None) -> Access:
        api = self._profile.api
        return Access(api.host, api_key, api.allowed_hosts, api.cors_origins)

    def _report(self, record: StateRecord) -> Report:
        def report(event: PhaseEvent) -> None:
            log.info("%s", event.line)
            if event.node is None:
                record.write("starting")
            self._say(event)

        return report

    async def _serve(
        self, stack: AsyncExitStack, api_socket: socket.socket, base_url: str, access: Access, tokenizer: Tokenizer
    ) -> None:
        launch = self._launch
        assert launch.plan is not None
        queue_limit = QUEUE_LIMIT_PER_LANE * launch.plan.concurrency
        engine = await asyncio.to_thread(PipelineEngine.of, launch, queue_limit=queue_limit)
        stack.push_async_callback(asyncio.to_thread, engine.close)
        self._board = StatusBoard(launch, engine, base_url)
        await self._board.refresh()
        poll = asyncio.create_task(self._board.run(), name="status")
        stack.push_async_callback(_settle, poll)
        served = ServedModel(self._profile.model, int(time.time()), launch.plan.context)
        metrics = ClusterMetrics(self._board.document, engine.latencies)
        app = create_app(engine, tokenizer, served, self._board.document, access, metrics.text, self._board.refresh)
        control_path = paths.make_control_socket_dir(self._order.name)
        stack.callback(paths.remove_control_socket, self._order.name)
        control = create_control_app(self._board.document, self._stop_after)
        for server in (HttpServer(control, bind_control(control_path)), HttpServer(app, api_socket)):
            stack.push_async_callback(server.close)
            await server.started()
        stack.push_async_callback(self._drain, engine)

    async def _drain(self, engine: PipelineEngine) -> None:
        self._board.draining = True
        log.info("no new requests; the running ones have %g s", self._drain_s)
        if not await engine.drain(self._drain_s):
            log.warning("requests were still running after %g s: ending them", self._drain_s)
            await asyncio.to_thread(engine.close)

    def _stop_after(self, drain_s: float) -> None:
        self._drain_s = drain_s
        self._stop.set()

    def _finish_bring_up(self) -> None:
        self._ready = True
        self._say(ReadyEvent(self._board.document(), round(time.monotonic() - self._began_s, 3)))
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)  # the launcher reads to the end of stdout
        os.close(quiet)

    async def _watch_launcher(self) -> None:
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        await reader.read()
        if self._order.attached or not self._ready:
            log.info("the launcher is gone: taking the cluster down")
            self._stop.set()

    def _say(self, event: Event) -> None:
        with contextlib.suppress(OSError):  # a launcher that is gone is noticed on stdin
            os.write(1, encode(event).encode())

    def _log_tail(self, error: MlxctlError) -> list[str]:
        return next((list(w.log.tail) for w in self._launch.workers if w.node == error.node), [])


class StateRecord:
    """Keeps the cluster's state file in step with its launch."""

    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        self._base_url = ""
        self._started_at = time.time()

    def write(self, phase: Phase, base_url: str | None = None) -> None:
        self._base_url = base_url or self._base_url
        write_state(describe_launch(self._launch, phase, self._base_url, self._started_at))

    def remove(self) -> None:
        """Forget the cluster, but for nodes that nobody knows to be clean."""
        if self._launch.unreached:
            self.write("failed")
        else:
            remove_state(self._launch.name)


def _load_tokenizer(model: str) -> Tokenizer:
    return Tokenizer.load(resolve_model(model))


async def _settle(task: asyncio.Task[Any]) -> None:
    """Cancel `task` if it still runs; its failure was reported elsewhere."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):
        await task


def _base_url(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run() -> NoReturn:
    """Read the order from stdin, run the cluster, end the process."""
    order = DaemonOrder.read(sys.stdin.fileno())
    paths.make_cluster_dir(order.name)
    _log_to(paths.log_file(order.name, "coordinator"))
    raise_descriptor_limit()
    switch_quickly()
    code = asyncio.run(Daemon(order).run())
    logging.shutdown()
    os._exit(code)  # threads inside gRPC may not have noticed yet that their worker is gone


def _log_to(path: Path) -> None:
    """All logging, and whatever a library prints to stderr, into `path`."""
    logging.raiseExceptions = False  # a full disk must not end what runs
    logging.basicConfig(level=logging.INFO, handlers=[StderrFollows(path)])
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
