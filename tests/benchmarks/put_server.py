"""A worker's service beside a method that takes messages and forgets them, for test_put.py.

Run with two folders and an address: the first folder holds key.pem, certificate.pem and authority.pem, and gets a file
`port`; the second is the store.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from mlxctl.wire.identity import Identity
from mlxctl.wire.service import OPTIONS, add_to_server
from mlxctl.wire.threads import switch_quickly
from mlxctl.worker.layer_store import LayerStore
from mlxctl.worker.service import WorkerService
from mlxctl.worker.weights import NodeWeights

RAW_SERVICE = "raw"


def swallow(messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
    """How many bytes came."""
    return str(sum(len(message) for message in messages)).encode()


def main(folder: Path, store: Path, host: str) -> None:
    switch_quickly()
    pems = [(folder / f"{name}.pem").read_bytes() for name in ("key", "certificate", "authority")]
    identity = Identity(*pems)
    server = grpc.server(ThreadPoolExecutor(16), options=OPTIONS)
    weights = NodeWeights(LayerStore(store), store_only=True)
    add_to_server(WorkerService(identity, lambda _: None, lambda: None, weights), server)
    handlers = {"Swallow": grpc.stream_unary_rpc_method_handler(swallow)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(RAW_SERVICE, handlers),))
    port = server.add_secure_port(f"{host}:0", identity.server_credentials())
    server.start()
    (folder / "port.new").write_text(str(port))
    (folder / "port.new").rename(folder / "port")
    sys.stdin.read()
    server.stop(None).wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
