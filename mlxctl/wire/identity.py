"""Keys, certificate requests and gRPC credentials of one end. Keys live in memory only.

Every process of a cluster makes its own key and has a certificate signed by the cluster's authority, which lives in the
coordinator's memory (mlxctl/launch/certificates.py). Both ends of every edge verify the other's name.
"""

from __future__ import annotations

from dataclasses import dataclass

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True, slots=True)
class Identity:
    """A process's private key, its certificate and the authority's certificate, all PEM."""

    key: bytes
    certificate: bytes
    authority: bytes

    def server_credentials(self) -> grpc.ServerCredentials:
        """Credentials that demand a client certificate of the same authority."""
        return grpc.ssl_server_credentials(
            [(self.key, self.certificate)], root_certificates=self.authority, require_client_auth=True
        )

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """Credentials that present this certificate and trust the cluster's authority alone."""
        return grpc.ssl_channel_credentials(self.authority, self.key, self.certificate)


class PrivateKey:
    """A fresh P-256 key that never leaves this process, and the request to have it certified as `name`."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(self._key, hashes.SHA256())
        self.request_pem = request.public_bytes(serialization.Encoding.PEM)

    def identity(self, certificate: bytes, authority: bytes) -> Identity:
        """Join the key with the certificate (PEM) that came back for it."""
        key = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return Identity(key, certificate, authority)


def peer_name(context: grpc.ServicerContext) -> str:
    """The verified common name of the client behind `context`; empty if there is none."""
    names = context.auth_context().get("x509_common_name", [])
    return names[0].decode() if names else ""
