"""The authority of one cluster: signs each process's key. Lives in the coordinator's memory, dies with it."""

from __future__ import annotations

import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mlxctl.errors import AuthenticationError

_SKEW = datetime.timedelta(hours=24)  # nodes' clocks differ
_LIFE = datetime.timedelta(days=365)


class CertificateAuthority:
    """Signs certificate requests for the names that the coordinator expects, and nothing else."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mlxctl cluster authority")])
        builder = self._builder(self._name, self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        certificate = builder.sign(self._key, hashes.SHA256())
        self.certificate_pem = certificate.public_bytes(serialization.Encoding.PEM)

    def sign(self, request_pem: bytes, name: str) -> bytes:
        """The certificate (PEM) for `request_pem`. Raises AuthenticationError if it asks for another name."""
        try:
            request = x509.load_pem_x509_csr(request_pem)
        except ValueError as error:
            raise AuthenticationError("a worker sent a certificate request that cannot be read") from error
        names = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        if not request.is_signature_valid or [n.value for n in names] != [name]:
            raise AuthenticationError(f"a worker asked for a certificate that is not its own ({name})")
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = (
            self._builder(request.subject, request.public_key())
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey | object) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)  # type: ignore[arg-type]  # a request's key has every kind that cryptography knows
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _SKEW)
            .not_valid_after(now + _LIFE)
        )
