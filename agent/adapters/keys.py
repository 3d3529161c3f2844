"""Signing keys: made here, kept here, and judged strictly before they are used.

The private key is the evidence. It is made on the gateway, written once with mode 0600 and never leaves; a file that
somebody else could have read is not a key but a finding, so it refuses to start instead of warning. Which algorithm
checks a signature is decided by the registered public key, never by what a message says of itself.

Ed25519 signs and verifies, ES256 (P-256, signature as raw r||s of RFC 7518) verifies only, for signers that sit in a
TPM. The one module that imports cryptography; it keeps to the interface of release 38, which is what Debian 12
carries for 32-bit ARM.

Comes before: `keygen`, the settings (which name the files). Comes after: `agent.reporting.envelope`, which seals with
a `Signer` and opens with a `KeyRing`; both are implemented here.
"""

import datetime
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from agent.adapters.credentials import credential_path
from agent.errors import ConfigError
from agent.reporting.envelope import base64url, base64url_decode, thumbprint

# No key or certificate chain is larger; a device or a log file given by mistake must not be read into memory.
FILE_SIZE_MAX = 64 * 1024
_P256_SIZE = 32


@dataclass(frozen=True, slots=True)
class PublicKey:
    """One public key, with what the wire format calls it.

    `alg` is `Ed25519` or `ES256`, `jwk` the members that RFC 7638 hashes, `kid` that hash, `pem` the
    SubjectPublicKeyInfo text.
    """

    kid: str
    alg: str
    jwk: Mapping[str, str] = field(repr=False)
    pem: str = field(repr=False)
    _key: ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey = field(repr=False, compare=False)

    def verify(self, signed: bytes, signature: bytes) -> bool:
        """True when `signature` (64 bytes) was made over `signed` by the private half of this key."""
        try:
            if isinstance(self._key, ed25519.Ed25519PublicKey):
                self._key.verify(signature, signed)
            else:
                self._key.verify(_der_of_raw(signature), signed, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True


class PublicKeys:
    """The registered keys by their thumbprint; `agent.reporting.envelope.KeyRing`."""

    def __init__(self, keys: Iterable[PublicKey] = ()) -> None:
        self._keys = {key.kid: key for key in keys}

    def __iter__(self) -> Iterator[PublicKey]:
        return iter(self._keys.values())

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: PublicKey) -> None:
        """Register one more key (after a rotation or an enrolment); the same key twice is one key."""
        self._keys[key.kid] = key

    def get(self, kid: str) -> PublicKey:
        """The key with this thumbprint. Raises KeyError when it is not registered."""
        return self._keys[kid]

    def alg_of(self, kid: str) -> str:
        """The algorithm of the registered key. Raises KeyError when `kid` is unknown."""
        return self._keys[kid].alg

    def verify(self, kid: str, alg: str, signed: bytes, signature: bytes) -> bool:
        """True when the key `kid` made this signature and `alg` is the algorithm it was registered for.

        Raises KeyError when `kid` is unknown.
        """
        key = self._keys[kid]
        return alg == key.alg and key.verify(signed, signature)


class Ed25519Signer:
    """`agent.service.ports.Signer` with a private key in memory; says nothing about itself but its thumbprint."""

    def __init__(self, private_key: ed25519.Ed25519PrivateKey) -> None:
        self._private_key = private_key
        self._public_key = _describe(private_key.public_key())

    def __repr__(self) -> str:
        return f"Ed25519Signer(kid={self.kid!r})"

    @property
    def alg(self) -> str:
        """JWS algorithm: `Ed25519` (RFC 9864)."""
        return self._public_key.alg

    @property
    def kid(self) -> str:
        """RFC 7638 SHA-256 thumbprint of the public key."""
        return self._public_key.kid

    @property
    def public_jwk(self) -> Mapping[str, str]:
        """The public half as the members that its thumbprint is made of."""
        return self._public_key.jwk

    @property
    def public_key(self) -> PublicKey:
        """The public half, to be enrolled at the platform."""
        return self._public_key

    def sign(self, data: bytes) -> bytes:
        """The 64 bytes of the Ed25519 signature over `data`; the same data always gives the same bytes."""
        return self._private_key.sign(data)


# ------------------------------------------------------------------------------------------------- making and loading


def draw() -> ed25519.Ed25519PrivateKey:
    """A key that nobody can guess, from the generator of OpenSSL."""
    return ed25519.Ed25519PrivateKey.generate()


def generate_key(path: Path) -> PublicKey:
    """Make a new Ed25519 key, write it to `path` (PKCS#8 PEM, mode 0600, synced) and return the public half.

    Raises ConfigError when something is there already (a signing key is never overwritten: batches signed by it
    could not be continued) or the folder cannot be written.
    """
    private_key = draw()
    pem = private_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        _write_new(path, pem)
    except FileExistsError:
        raise ConfigError.of(
            path, "exists already", "keep it, or choose another name; a key is never overwritten"
        ) from None
    except OSError as error:
        raise ConfigError.of(
            path, f"cannot be written: {_why(error)}", "choose a folder that this user may write"
        ) from error
    return _describe(private_key.public_key())


def load_signer(path: Path) -> Ed25519Signer:
    """Load the signing key of this agent.

    Raises ConfigError when the file is missing, readable by anybody but the user who runs the agent, owned by
    somebody else, or anything but one unencrypted Ed25519 key in PKCS#8 PEM.
    """
    return _signer_of(path, _read(path, secret=True))


def load_credential_signer(name: str) -> Ed25519Signer:
    """Load the signing key that systemd handed over (`LoadCredential=` or `LoadCredentialEncrypted=`).

    Raises ConfigError when there is no such credential, or as `load_signer`. systemd gives the file to the service
    through an access list, which shows as a readable group; only readers beyond that are refused.
    """
    path = credential_path(name, "key_file")
    return _signer_of(path, _read(path, secret=True, credential=True))


def load_public_key(path: Path) -> PublicKey:
    """Load one public key (PEM, Ed25519 or P-256), for example the platform's acknowledgement key.

    Raises ConfigError when the file is missing or is anything else; a private key given by mistake is named as such.
    """
    pem = _read(path, secret=False)
    if b"PRIVATE KEY" in pem:
        raise ConfigError.of(
            path, "is a private key", "give the public key here, and keep the private one to yourself"
        )
    try:
        return _describe(serialization.load_pem_public_key(pem))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        remedy = "a PEM file that begins with -----BEGIN PUBLIC KEY----- and holds an Ed25519 or P-256 key is needed"
        raise ConfigError.of(path, "is not a public key that can be used", remedy) from error


def public_key_of_jwk(jwk: Mapping[str, object]) -> PublicKey:
    """The public key that an enrolment or a key rotation carries.

    Raises ValueError for anything but an Ed25519 or P-256 public key with canonical coordinates, and for a
    private key (member `d`).
    """
    if "d" in jwk:
        raise ValueError("the JWK carries a private key")
    match jwk.get("kty"), jwk.get("crv"):
        case "OKP", "Ed25519":
            return _describe(ed25519.Ed25519PublicKey.from_public_bytes(_coordinate(jwk, "x")))
        case "EC", "P-256":
            point = b"\x04" + _coordinate(jwk, "x") + _coordinate(jwk, "y")
            return _describe(ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point))
    raise ValueError("the JWK is neither Ed25519 nor P-256")


@dataclass(frozen=True, slots=True)
class CertificateDates:
    """From when to when a certificate is valid, UTC Unix ms."""

    not_before_ms: int
    not_after_ms: int


def certificate_dates(path: Path) -> CertificateDates:
    """The validity of the first certificate in a PEM file; tells an expired client certificate from a dead broker.

    Raises ConfigError when there is no certificate in it.
    """
    try:
        certificate = x509.load_pem_x509_certificate(_read(path, secret=False))
    except ValueError as error:
        raise ConfigError.of(
            path, "holds no certificate", "a PEM file with -----BEGIN CERTIFICATE----- is needed"
        ) from error
    return CertificateDates(
        _certificate_ms(certificate, "not_valid_before"), _certificate_ms(certificate, "not_valid_after")
    )


# ------------------------------------------------------------------------------------------------------------- details


def _describe(key: object) -> PublicKey:
    """Name a key of the library in the words of the wire format. Raises ValueError for a kind we do not use."""
    if isinstance(key, ed25519.Ed25519PublicKey):
        raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        jwk = {"crv": "Ed25519", "kty": "OKP", "x": base64url(raw)}
        return PublicKey(thumbprint(jwk), "Ed25519", jwk, _pem_of(key), key)
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        numbers = key.public_numbers()
        x, y = (base64url(number.to_bytes(_P256_SIZE, "big")) for number in (numbers.x, numbers.y))
        jwk = {"crv": "P-256", "kty": "EC", "x": x, "y": y}
        return PublicKey(thumbprint(jwk), "ES256", jwk, _pem_of(key), key)
    raise ValueError("neither an Ed25519 nor a P-256 key")


def _pem_of(key: ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey) -> str:
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.PEM, info).decode("ascii")


def _der_of_raw(signature: bytes) -> bytes:
    if len(signature) != 2 * _P256_SIZE:
        raise InvalidSignature
    r, s = signature[:_P256_SIZE], signature[_P256_SIZE:]
    return encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))


def _coordinate(jwk: Mapping[str, object], name: str) -> bytes:
    text = jwk.get(name)
    if not isinstance(text, str):
        raise ValueError(f"the JWK has no text member {name!r}")
    raw = base64url_decode(text)
    if len(raw) != _P256_SIZE:  # Ed25519 has the same size
        raise ValueError(f"member {name!r} of the JWK is not 32 bytes")
    return raw


def _signer_of(path: Path, pem: bytes) -> Ed25519Signer:
    remedy = "make one with `metering-agent keygen --out FILE`"
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except TypeError as error:
        reason = "is encrypted with a passphrase, and nobody is there to type it"
        raise ConfigError.of(
            path, reason, "store it unencrypted with mode 0600, or as an encrypted systemd credential"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError.of(path, "is not a private key in PKCS#8 PEM", remedy) from error
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise ConfigError.of(path, "is a private key, but not an Ed25519 key", remedy)
    return Ed25519Signer(key)


def _read(path: Path, *, secret: bool, credential: bool = False) -> bytes:
    """Read a small regular file; a secret one only when nobody else can have read it.

    The questions are asked of the open file, not of the name, so that nobody can exchange it in between.
    """
    try:
        # Without O_NONBLOCK a named pipe would hang the start.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError.of(
            path, f"cannot be opened: {_why(error)}", "check the path and who may read it"
        ) from error
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError.of(path, "is not a file", "name the PEM file itself")
        if secret:
            _check_secret(path, status, credential=credential)
        with open(handle, "rb", closefd=False) as file:
            data = file.read(FILE_SIZE_MAX + 1)
    finally:
        os.close(handle)
    if len(data) > FILE_SIZE_MAX:
        raise ConfigError.of(path, "is too large for a PEM file", "name the PEM file itself")
    return data


def _check_secret(path: Path, status: os.stat_result, *, credential: bool) -> None:
    mode = stat.S_IMODE(status.st_mode)
    user = os.geteuid()
    if mode & (stat.S_IRWXO if credential else stat.S_IRWXO | stat.S_IRWXG):
        reason = f"can be read or changed by other users (mode {mode:04o})"
        raise ConfigError.of(
            path, reason, f"chmod 600 {path}; when somebody may have copied it, make a new key and enrol it"
        )
    if status.st_uid != user and not (credential and status.st_uid == 0):
        reason = f"belongs to user {status.st_uid}, and the agent runs as user {user}"
        raise ConfigError.of(path, reason, f"chown {user} {path}, or run the agent as its owner")


def _write_new(path: Path, data: bytes) -> None:
    """Create `path` with mode 0600 and make it durable; leaves nothing behind when it fails half-way."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, 0o600)  # a umask can only take rights away, and 0400 could not be rotated
            file.write(data)
            file.flush()
            os.fsync(handle)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _certificate_ms(certificate: x509.Certificate, name: str) -> int:
    """`not_valid_before` and `not_valid_after` as Unix ms; newer releases deprecate the naive ones of release 38."""
    moment = getattr(certificate, f"{name}_utc", None)
    if moment is None:
        moment = getattr(certificate, name).replace(tzinfo=datetime.UTC)
    return int(moment.timestamp()) * 1000


def _why(error: OSError) -> str:
    return error.strerror or type(error).__name__
