"""The other end of the wire's figures: a process that sends frames back over a stream like a stage's. Run by `Echo`.

On stdin one JSON line: {"name": …, "key": …, "certificate": …, "authority": …} (PEM), or {} for no TLS; on stdout the
port. It ends when stdin does.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc

from mlxctl.wire.identity import Identity
from mlxctl.wire.parts import PART_BYTES, join, split
from mlxctl.wire.service import OPTIONS
from mlxctl.wire.threads import switch_quickly

SERVICE = "mlxctl.v1.Echo"
METHOD = "Echo"
EPOCH = 1
SHORT_ANSWER = b"."


def echo(parts: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
    """Each frame as it came; one of several parts gets a short answer."""
    for number, frame in enumerate(join(parts, epoch=EPOCH)):
        answer = frame if len(frame) <= PART_BYTES else SHORT_ANSWER
        yield from split([answer], epoch=EPOCH, frame_id=number)


def main() -> None:
    switch_quickly()
    pems = json.loads(sys.stdin.readline())
    server = grpc.server(ThreadPoolExecutor(2), options=OPTIONS)
    handlers = {METHOD: grpc.stream_stream_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    if pems:
        identity = Identity(*(pems[name].encode() for name in ("key", "certificate", "authority")))
        port = server.add_secure_port("127.0.0.1:0", identity.server_credentials())
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(json.dumps({"port": port}), flush=True)
    sys.stdin.read()
    server.stop(None).wait()


if __name__ == "__main__":
    main()
