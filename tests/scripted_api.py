"""An OpenAI-style server that says exactly what a test wants, failures included; what a healthy cluster never does."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, slots=True)
class Thinking:
    """A piece of reasoning; a plain str is a piece of text."""

    text: str


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing for a while; without `seconds_s` until the client is gone."""

    seconds_s: float | None = None


@dataclass(frozen=True, slots=True)
class Cut:
    """The connection ends here, without a word."""


@dataclass(frozen=True, slots=True)
class ErrorEvent:
    """An error in OpenAI's shape in the middle of the stream."""

    message: str
    type: str = "server_error"
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A status other than 200 in place of an answer."""

    status: int
    message: str
    code: str | None = None
    param: str | None = None


@dataclass(frozen=True, slots=True)
class Finish:
    """The last event, with its reason; without one in a script the reason is "stop"."""

    reason: str


Step = str | Thinking | Pause | Cut | ErrorEvent | Refusal | Finish

STATUS: dict[str, Any] = {
    "schema": "mlxctl.status/1",
    "cluster": "scripted",
    "state": "ready",
    "model": "canary",
    "context": 4096,
    "concurrency": 8,
    "unused": [],
    "api": "http://127.0.0.1:1",
    "uptime_s": 61.5,
    "epoch": 1,
    "coordinator": {"pid": 1, "rss_bytes": 1 << 20, "version": "0.1.0"},
    "stages": [
        {
            "stage": index,
            "node": f"worker-{index + 1}",
            "host": "localhost",
            "rank": 0,
            "pid": 100 + index,
            "address": "127.0.0.1:1",
            "state": "ready",
            "layers": [4 * index, 4 * index + 4],
            "weight_bytes": 3 << 20,
            "kv_bytes": 1 << 20,
            "cache_bytes": 1 << 19,
            "budget_bytes": 1 << 30,
            "active_bytes": 5 << 20,
            "peak_bytes": 6 << 20,
            "rss_bytes": 200 << 20,
            "busy_share": 0.5,
            "steps": 7,
            "caches": 1,
            "profile": {
                "steps": 7,
                "receive_s": 0.01,
                "graph_s": 0.02,
                "compute_s": 0.5,
                "serialize_s": 0.01,
                "wait_s": 60.0,
                "sent_bytes": 7 << 12,
                "foreseen_steps": 0,
            },
            "decode_medians": {
                "wait_s": 0.015,
                "queue_s": 0.0001,
                "graph_s": 0.001,
                "eval_s": 0.012,
                "serialize_s": 0.0002,
            },
        }
        for index in range(2)
    ],
    "requests": {"running": 1, "waiting": 0, "completed": 3, "failed": 0, "cancelled": 0},
    "tokens_per_s": 12.0,
    "tokens_generated": 99,
    "lanes": {
        "batchable": True,
        "rows": [1],
        "prefilling": 0,
        "kept_sequences": 3,
        "kept_tokens": 120,
        "cache_tokens": 4096,
    },
    "steps": {
        "steps": 7,
        "round_trip_s": 0.2,
        "wire_s": 0.01,
        "decode_medians": {"round_trip_s": 0.028, "compute_s": 0.026, "wire_s": 0.0015},
    },
    "problem": None,
}


@dataclass(slots=True)
class ScriptedApi:
    """What it will answer, what it was asked, and whether a client left early."""

    base_url: str
    scripts: list[Sequence[Step]] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)
    client_left: threading.Event = field(default_factory=threading.Event)
    status: dict[str, Any] | None = field(default_factory=lambda: dict(STATUS))
    models: list[dict[str, Any]] = field(default_factory=lambda: [{"id": "canary"}])
    api_key: str | None = None


@contextmanager
def serve(port: int = 0) -> Iterator[ScriptedApi]:
    """A scripted API on a free port of this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", port), _Handler)
    server.daemon_threads = True
    api = ScriptedApi(f"http://127.0.0.1:{server.server_port}/v1")
    server.RequestHandlerClass = type("Handler", (_Handler,), {"api": api})
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), name="scripted-api")
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    api: ScriptedApi

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""

    def do_GET(self) -> None:
        self.api.authorizations.append(self.headers["authorization"])
        if self.api.api_key is not None and self.headers["authorization"] != f"Bearer {self.api.api_key}":
            self._json(401, {"error": {"message": "wrong key", "type": "authentication_error"}})
        elif self.path == "/v1/models":
            self._json(200, {"data": self.api.models})
        elif self.path == "/status" and self.api.status is not None:
            self._json(200, self.api.status)
        else:
            self._json(404, {"error": {"message": "not found"}})

    def do_POST(self) -> None:
        self.api.requests.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        script = self.api.scripts.pop(0)
        if script and isinstance(script[0], Refusal):
            error = {"message": script[0].message, "code": script[0].code, "param": script[0].param}
            self._json(script[0].status, {"error": error}, {"Retry-After": "7"})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            self._play(script)
        except OSError:
            self.api.client_left.set()

    def _play(self, script: Sequence[Step]) -> None:
        tokens = 0
        finish = "stop"
        for step in script:
            if isinstance(step, Cut):
                return
            if isinstance(step, Pause):
                self._idle(step.seconds_s)
            elif isinstance(step, Finish):
                finish = step.reason
            elif isinstance(step, ErrorEvent):
                self._event({"error": {"message": step.message, "type": step.type, "code": step.code}})
            elif isinstance(step, Thinking):
                self._event({"choices": [{"delta": {"reasoning": step.text}}]})
                tokens += 1
            else:
                self._event({"choices": [{"delta": {"content": step}}]})
                tokens += 1
        self._event({"choices": [{"delta": {}, "finish_reason": finish}]})
        self._event({"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": tokens}})
        self._write(b"data: [DONE]\n\n")

    def _idle(self, seconds_s: float | None) -> None:
        if seconds_s is not None:
            time.sleep(seconds_s)
            return
        while True:  # a write to a client that is gone fails
            self._write(b": still there\n\n")
            time.sleep(0.01)

    def _event(self, event: dict[str, Any]) -> None:
        self._write(f"data: {json.dumps(event, ensure_ascii=False)}\n\n".encode())

    def _write(self, content: bytes) -> None:
        self.wfile.write(content)
        self.wfile.flush()

    def _json(self, status: int, document: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
