"""Mutual TLS between real gRPC ends: who has no certificate of the cluster gets nothing."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from mlxctl.errors import AuthenticationError
from mlxctl.launch.certificates import CertificateAuthority
from mlxctl.rpc import shard_pb2
from mlxctl.wire.identity import Identity, PrivateKey, peer_name
from mlxctl.wire.service import ShardServicer, ShardStub, add_to_server, channel

pytestmark = pytest.mark.unit

SERVER = "stage-0.test.mlxctl"


def identity(authority: CertificateAuthority, name: str) -> Identity:
    key = PrivateKey(name)
    return key.identity(authority.sign(key.request_pem, name), authority.certificate_pem)


class NamingServicer(ShardServicer):
    """Answers Status with the caller's verified name."""

    def status(self, request: shard_pb2.StatusRequest, context: grpc.ServicerContext) -> shard_pb2.StatusReply:
        return shard_pb2.StatusReply(deployment=peer_name(context))


@pytest.fixture(scope="module")
def authority() -> CertificateAuthority:
    return CertificateAuthority()


@pytest.fixture(scope="module")
def address(authority: CertificateAuthority) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(2))
    add_to_server(NamingServicer(), server)
    port = server.add_secure_port("127.0.0.1:0", identity(authority, SERVER).server_credentials())
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def ask(open_channel: grpc.Channel) -> str:
    with open_channel:
        return str(ShardStub(open_channel).status(shard_pb2.StatusRequest(), timeout=5).deployment)


def test_the_servers_sees_the_clients_certified_name(authority: CertificateAuthority, address: str) -> None:
    assert ask(channel(address, SERVER, identity(authority, "coordinator"))) == "coordinator"


def test_a_client_without_a_certificate_gets_nothing(authority: CertificateAuthority, address: str) -> None:
    credentials = grpc.ssl_channel_credentials(authority.certificate_pem)
    options = (("grpc.ssl_target_name_override", SERVER),)
    with pytest.raises(grpc.RpcError) as caught:
        ask(grpc.secure_channel(address, credentials, options=options))
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


def test_a_plain_client_gets_nothing(address: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        ask(grpc.insecure_channel(address))
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


def test_a_client_of_another_clusters_authority_gets_nothing(authority: CertificateAuthority, address: str) -> None:
    stranger = identity(CertificateAuthority(), "coordinator")
    trusting = Identity(stranger.key, stranger.certificate, authority.certificate_pem)
    with pytest.raises(grpc.RpcError) as caught:
        ask(channel(address, SERVER, trusting))
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


def test_a_server_of_another_name_is_refused(authority: CertificateAuthority, address: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        ask(channel(address, "stage-1.test.mlxctl", identity(authority, "coordinator")))
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


def test_the_authority_signs_no_name_but_the_expected_one(authority: CertificateAuthority) -> None:
    with pytest.raises(AuthenticationError, match="not its own"):
        authority.sign(PrivateKey("coordinator").request_pem, SERVER)


def test_the_authority_refuses_what_is_no_request(authority: CertificateAuthority) -> None:
    with pytest.raises(AuthenticationError, match="cannot be read"):
        authority.sign(b"not a request", SERVER)
