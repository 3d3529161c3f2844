"""What every signer must do: the platform checks signatures with nothing but the enrolled public key."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from agent.adapters.keys import (
    PublicKey,
    PublicKeys,
    generate_key,
    load_credential_signer,
    load_signer,
    public_key_of_jwk,
)
from agent.reporting.envelope import (
    BATCH,
    DESCRIPTOR,
    EnvelopeError,
    base64url,
    open_sealed,
    seal,
    thumbprint,
)
from agent.reporting.verify import Verifier
from agent.service.ports import Signer
from agent.service.signing import settle_keys
from tests.service.bench import Bench


def file_signer(folder: Path) -> tuple[Signer, PublicKey]:
    public = generate_key(folder / "signing-key.pem")
    return load_signer(folder / "signing-key.pem"), public


class TpmSigner:
    """As one in a TPM would be: it is asked by handle, knows ES256 only, and gives r||s as RFC 7518 wants it."""

    alg = "ES256"

    def __init__(self) -> None:
        self._handle = ec.generate_private_key(ec.SECP256R1())
        numbers = self._handle.public_key().public_numbers()
        x, y = (base64url(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
        self.public_jwk: Mapping[str, str] = {"crv": "P-256", "kty": "EC", "x": x, "y": y}
        self.kid = thumbprint(self.public_jwk)

    def sign(self, data: bytes) -> bytes:
        """64 bytes."""
        r, s = decode_dss_signature(self._handle.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def tpm_signer(folder: Path) -> tuple[Signer, PublicKey]:
    signer = TpmSigner()
    return signer, public_key_of_jwk(signer.public_jwk)


def credential_signer(folder: Path) -> tuple[Signer, PublicKey]:
    public = generate_key(folder / "signing-key")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CREDENTIALS_DIRECTORY", str(folder))
        return load_credential_signer("signing-key"), public


# A signer in a real TPM or for SM2 joins here.
SIGNERS: list[Callable[[Path], tuple[Signer, PublicKey]]] = [file_signer, credential_signer, tpm_signer]


@pytest.fixture(params=SIGNERS, ids=lambda make: make.__name__)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Signer, PublicKey]:
    made: tuple[Signer, PublicKey] = request.param(tmp_path)
    return made


def test_signer_and_public_key_have_the_same_name(pair: tuple[Signer, PublicKey]) -> None:
    signer, public = pair
    assert (signer.kid, signer.alg) == (public.kid, public.alg)
    assert len(signer.kid) == 43
    assert thumbprint(signer.public_jwk) == signer.kid
    assert public_key_of_jwk(signer.public_jwk).pem == public.pem


def test_it_takes_over_by_a_rotation_and_proves_itself(
    pair: tuple[Signer, PublicKey], tmp_path: Path
) -> None:
    """The agent's own sealing code with this signer as the next key, judged by the auditor's."""
    signer, _ = pair
    folder = tmp_path / "gateway"
    folder.mkdir()
    bench = Bench(folder)
    bench.following = signer
    bench.wire(bench.meters)
    settle_keys(bench.journal, bench.signers, site="site.toml", platform_answers=True)
    for count in range(3):
        bench.read({"reflow-1": 1000 + count, "wave-1": 500})
    verifier = Verifier(
        PublicKeys([bench.signer.public_key]), admit=lambda jwk: PublicKeys([public_key_of_jwk(jwk)])
    )
    for number, kept in enumerate(bench.journal.queue(after_ordinal=0, limit=10), 1):
        verifier.feed(number, kept.jws or b"")
    assert verifier.report().ok
    assert bench.journal.signing_kid() == signer.kid


@pytest.mark.parametrize("data", [b"", b"x", bytes(48 * 1024)], ids=len)
def test_what_was_signed_verifies_and_nothing_else_does(pair: tuple[Signer, PublicKey], data: bytes) -> None:
    signer, public = pair
    signature = signer.sign(data)
    assert len(signature) == 64
    assert public.verify(data, signature)
    assert not public.verify(data + b"\0", signature)
    for place in (0, 31, 32, 63):
        flipped = bytearray(signature)
        flipped[place] ^= 1
        assert not public.verify(data, bytes(flipped))


def test_a_sealed_message_opens_with_the_ring_and_only_as_its_own_kind(
    pair: tuple[Signer, PublicKey],
) -> None:
    signer, public = pair
    sealed = seal(BATCH, {"v": "1.0"}, signer)
    opened = open_sealed(sealed, BATCH, PublicKeys([public]))
    assert (opened.kid, opened.alg, opened.payload) == (signer.kid, signer.alg, {"v": "1.0"})
    with pytest.raises(EnvelopeError):
        open_sealed(sealed, DESCRIPTOR, PublicKeys([public]))


def test_the_key_of_somebody_else_does_not_open_it(pair: tuple[Signer, PublicKey], tmp_path: Path) -> None:
    signer, _ = pair
    sealed = seal(BATCH, {"v": "1.0"}, signer)
    with pytest.raises(EnvelopeError) as error:
        open_sealed(sealed, BATCH, PublicKeys([generate_key(tmp_path / "other.pem")]))
    assert error.value.verdict == "unknown-key"
