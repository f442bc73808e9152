"""The API on a real port of this machine, in a thread, in front of the unsplit engine. For tests over HTTP."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import uvicorn
from starlette.applications import Starlette

from mlxctl.api.app import Access, ServedModel, create_app
from mlxctl.canary import MODEL_DIR
from mlxctl.tokenizer import Tokenizer
from tests.engine import UnsplitEngine

SERVED = ServedModel("canary", 1_700_000_000, 4096)
OPEN = Access()
NO_THINKING = {"chat_template_kwargs": {"enable_thinking": False}}


@cache
def canary_tokenizer() -> Tokenizer:
    """Loaded once a test process."""
    return Tokenizer.load(MODEL_DIR)


@dataclass
class ApiServer:
    """A running API: its address, the engine behind it, the document that /status gives."""

    url: str
    engine: UnsplitEngine
    status: dict[str, Any] = field(default_factory=dict)


@contextmanager
def serve_api(access: Access = OPEN, context: int = SERVED.context) -> Iterator[ApiServer]:
    """The canary on a free port; everything is gone at the end."""
    served = replace(SERVED, context=context)
    with UnsplitEngine() as engine:
        server = ApiServer("", engine)
        app = create_app(engine, canary_tokenizer(), served, lambda: server.status, access, lambda: b"")
        with serve_app(app) as server.url:
            yield server


@contextmanager
def serve_app(app: Starlette) -> Iterator[str]:
    """`app` on a free port of loopback; yields its URL."""
    config = uvicorn.Config(app, port=0, log_config=None, access_log=False, lifespan="off", ws="none")
    uvicorn_server = uvicorn.Server(config)
    thread = threading.Thread(target=uvicorn_server.run, name="uvicorn")
    thread.start()
    try:
        while not uvicorn_server.started and thread.is_alive():
            time.sleep(0.01)
        port = uvicorn_server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        uvicorn_server.should_exit = True
        thread.join()
