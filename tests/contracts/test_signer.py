"""What every signer must do: the platform checks signatures with nothing but the enrolled public key."""

from collections.abc import Callable
from pathlib import Path

import pytest

from agent.adapters.keys import PublicKey, PublicKeys, generate_key, load_signer
from agent.reporting.envelope import BATCH, DESCRIPTOR, EnvelopeError, open_sealed, seal
from agent.service.ports import Signer


def file_signer(folder: Path) -> tuple[Signer, PublicKey]:
    public = generate_key(folder / "signing-key.pem")
    return load_signer(folder / "signing-key.pem"), public


# A signer in a TPM or for SM2 joins here.
SIGNERS: list[Callable[[Path], tuple[Signer, PublicKey]]] = [file_signer]


@pytest.fixture(params=SIGNERS, ids=lambda make: make.__name__)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Signer, PublicKey]:
    made: tuple[Signer, PublicKey] = request.param(tmp_path)
    return made


def test_signer_and_public_key_have_the_same_name(pair: tuple[Signer, PublicKey]) -> None:
    signer, public = pair
    assert (signer.kid, signer.alg) == (public.kid, public.alg)
    assert len(signer.kid) == 43


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
