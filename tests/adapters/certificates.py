"""Certificates for tests: a self-signed authority and what it signs, P-256, PEM."""

import datetime
import ipaddress
import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PEM = serialization.Encoding.PEM
DAY_S = 86_400


class Authority:
    """A certification authority that lives as long as a test."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        self.certificate = _sign(self._name, self._key, self._name, self._key, authority=True)

    def issue(
        self, host: str, *, not_before_s: int | None = None, not_after_s: int | None = None
    ) -> tuple[bytes, bytes]:
        """A certificate for a host name or address, and its private key."""
        key = ec.generate_private_key(ec.SECP256R1())
        dates = (not_before_s, not_after_s)
        return _sign(_name(host), key, self._name, self._key, host=host, dates=dates), _private(key)


def self_signed(host: str, *, not_before_s: int, not_after_s: int) -> tuple[bytes, bytes]:
    """A certificate that nobody vouches for, and its private key."""
    key = ec.generate_private_key(ec.SECP256R1())
    return _sign(_name(host), key, _name(host), key, host=host, dates=(not_before_s, not_after_s)), _private(
        key
    )


def _sign(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    host: str | None = None,
    authority: bool = False,
    dates: tuple[int | None, int | None] = (None, None),
) -> bytes:
    now = int(time.time())
    not_before, not_after = dates[0] or now - DAY_S, dates[1] or now + DAY_S
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_utc(not_before))
        .not_valid_after(_utc(not_after))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if host is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName([_general(host)]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(PEM)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _utc(seconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)
