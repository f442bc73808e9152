"""The Shard service over gRPC: its methods, channel options, and the statuses that our errors travel as."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc

from mlxctl.errors import CorruptFrame, ForeignFrame, FrameTooLarge, HubUnreachable, MlxctlError, StoreFull
from mlxctl.rpc import shard_pb2
from mlxctl.wire.identity import Identity
from mlxctl.wire.parts import MAX_MESSAGE_BYTES

SERVICE = "mlxctl.v1.Shard"
COORDINATOR_NAME = "coordinator"

# Messages are bounded by the part size plus room for gRPC's own; a proxy from the environment never applies.
OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES + 4096),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES + 4096),
    ("grpc.enable_http_proxy", 0),
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 5_000),  # a cut link is noticed within 13 s, though nothing is sent
    ("grpc.keepalive_timeout_ms", 8_000),  # a machine may stall for some seconds
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 2_000),
)

_STATUS: dict[type[MlxctlError], grpc.StatusCode] = {
    CorruptFrame: grpc.StatusCode.DATA_LOSS,
    FrameTooLarge: grpc.StatusCode.RESOURCE_EXHAUSTED,
    StoreFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ForeignFrame: grpc.StatusCode.FAILED_PRECONDITION,
    HubUnreachable: grpc.StatusCode.FAILED_PRECONDITION,
}


def stage_name(deployment: str, stage: int) -> str:
    """The certificate name of the worker of `stage`."""
    return f"stage-{stage}.{deployment}.mlxctl"


def rank_name(group: str, rank: int) -> str:
    """The certificate name of a rank of a communicator's group."""
    return f"rank-{rank}.{group}.mlxctl"


def abort(context: grpc.ServicerContext, error: MlxctlError) -> None:
    """End the call with the status that stands for `error` and its line as details."""
    context.abort(_STATUS.get(type(error), grpc.StatusCode.INTERNAL), str(error))


def rpc_error(error: grpc.RpcError) -> str:
    """One line about a failed call: status and details."""
    return f"{error.code().name.lower().replace('_', ' ')}: {error.details() or 'no details'}"


def channel(address: str, server_name: str, identity: Identity, *, apart: bool = False) -> grpc.Channel:
    """A channel to the worker at `address` that accepts no certificate but `server_name`'s. Those that are not `apart`
    may share a connection.
    """
    own = (("grpc.use_local_subchannel_pool", 1),) if apart else ()
    options = (*OPTIONS, *own, ("grpc.ssl_target_name_override", server_name))
    return grpc.secure_channel(address, identity.channel_credentials(), options=options)


class ShardStub:
    """Calls to one worker. Streams of parts carry raw bytes, everything else protobuf messages."""

    def __init__(self, channel: grpc.Channel) -> None:
        pb = shard_pb2
        self.load = channel.unary_stream(
            f"/{SERVICE}/Load", pb.LoadRequest.SerializeToString, pb.LoadProgress.FromString
        )
        self.connect = channel.unary_unary(
            f"/{SERVICE}/Connect", pb.ConnectRequest.SerializeToString, pb.ConnectReply.FromString
        )
        self.forward = channel.stream_stream(f"/{SERVICE}/Forward", None, None)
        self.results = channel.unary_stream(f"/{SERVICE}/Results", pb.ResultsRequest.SerializeToString, None)
        self.feed = channel.stream_stream(f"/{SERVICE}/Feed", None, None)
        self.status = channel.unary_unary(
            f"/{SERVICE}/Status", pb.StatusRequest.SerializeToString, pb.StatusReply.FromString
        )
        self.store = channel.unary_unary(
            f"/{SERVICE}/Store", pb.StoreRequest.SerializeToString, pb.StoreReply.FromString
        )
        self.fetch = channel.unary_stream(
            f"/{SERVICE}/Fetch", pb.FetchRequest.SerializeToString, pb.PutReply.FromString
        )
        self.put = channel.stream_stream(f"/{SERVICE}/Put", None, pb.PutReply.FromString)
        self.lease = channel.unary_unary(
            f"/{SERVICE}/Lease", pb.LeaseRequest.SerializeToString, pb.LeaseReply.FromString
        )
        self.stop = channel.unary_unary(f"/{SERVICE}/Stop", pb.StopRequest.SerializeToString, pb.StopReply.FromString)


class ShardServicer:
    """What a worker answers; see protos/mlxctl/v1/shard.proto for the meaning of each call."""

    def load(self, request: shard_pb2.LoadRequest, context: grpc.ServicerContext) -> Iterator[shard_pb2.LoadProgress]:
        raise NotImplementedError

    def connect(self, request: shard_pb2.ConnectRequest, context: grpc.ServicerContext) -> shard_pb2.ConnectReply:
        raise NotImplementedError

    def forward(self, parts: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        raise NotImplementedError

    def results(self, request: shard_pb2.ResultsRequest, context: grpc.ServicerContext) -> Iterator[bytes]:
        raise NotImplementedError

    def feed(self, parts: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        raise NotImplementedError

    def status(self, request: shard_pb2.StatusRequest, context: grpc.ServicerContext) -> shard_pb2.StatusReply:
        raise NotImplementedError

    def store(self, request: shard_pb2.StoreRequest, context: grpc.ServicerContext) -> shard_pb2.StoreReply:
        raise NotImplementedError

    def put(self, parts: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[shard_pb2.PutReply]:
        raise NotImplementedError

    def fetch(self, request: shard_pb2.FetchRequest, context: grpc.ServicerContext) -> Iterator[shard_pb2.PutReply]:
        raise NotImplementedError

    def lease(self, request: shard_pb2.LeaseRequest, context: grpc.ServicerContext) -> shard_pb2.LeaseReply:
        raise NotImplementedError

    def stop(self, request: shard_pb2.StopRequest, context: grpc.ServicerContext) -> shard_pb2.StopReply:
        raise NotImplementedError


def add_to_server(servicer: ShardServicer, server: grpc.Server) -> None:
    """Register `servicer` under the names of the service definition."""
    pb = shard_pb2
    unary, streams = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    handlers: dict[str, Callable[..., Any]] = {
        "Load": streams(servicer.load, pb.LoadRequest.FromString, pb.LoadProgress.SerializeToString),
        "Connect": unary(servicer.connect, pb.ConnectRequest.FromString, pb.ConnectReply.SerializeToString),
        "Forward": grpc.stream_stream_rpc_method_handler(servicer.forward),
        "Results": streams(servicer.results, pb.ResultsRequest.FromString),
        "Feed": grpc.stream_stream_rpc_method_handler(servicer.feed),
        "Status": unary(servicer.status, pb.StatusRequest.FromString, pb.StatusReply.SerializeToString),
        "Store": unary(servicer.store, pb.StoreRequest.FromString, pb.StoreReply.SerializeToString),
        "Put": grpc.stream_stream_rpc_method_handler(servicer.put, response_serializer=pb.PutReply.SerializeToString),
        "Fetch": streams(servicer.fetch, pb.FetchRequest.FromString, pb.PutReply.SerializeToString),
        "Lease": unary(servicer.lease, pb.LeaseRequest.FromString, pb.LeaseReply.SerializeToString),
        "Stop": unary(servicer.stop, pb.StopRequest.FromString, pb.StopReply.SerializeToString),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
