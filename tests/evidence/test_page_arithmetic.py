"""SHA-2, Ed25519 and kWh of the page, which it uses where a browser has none, against the libraries of Python."""

import hashlib
import json
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from agent.metering.quantity import EXACT_MAX, format_kwh
from tests.evidence import page
from tests.support import programs

pytestmark = pytest.mark.node

FIELD = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
RFC_8032 = [
    # Section 7.1: public key, message, signature.
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24"
        "655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aee"
        "b00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28d"
        "c027beceea1ec40a",
    ),
]


def asked(folder: Path, **questions: Any) -> dict[str, Any]:
    """The page's answers."""
    judge = folder / "judge.js"
    judge.write_text(page.script("judge"))
    node = programs.find("node")
    assert node is not None
    done = subprocess.run(
        [str(node), str(Path(__file__).with_name("arithmetic.mjs")), str(judge)],
        input=json.dumps({"messages": [], "signed": [], "numbers": []} | questions),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_hashes_of_every_length_around_the_blocks(tmp_path: Path) -> None:
    chance = random.Random(1)
    messages = [chance.randbytes(size) for size in (*range(260), 1_000, 50_000)]
    said = asked(tmp_path, messages=[message.hex() for message in messages])
    assert said["hashes"] == [
        [hashlib.sha256(message).hexdigest(), hashlib.sha512(message).hexdigest()] for message in messages
    ]
    assert said["pieces"] == [hashlib.sha256(message).hexdigest() for message in messages]


def test_the_vectors_of_the_standard(tmp_path: Path) -> None:
    signed = [[key, signature, message] for key, message, signature in RFC_8032]
    assert asked(tmp_path, signed=signed)["verdicts"] == [True, True, True]


def openssl_says(key: bytes, signature: bytes, message: bytes) -> bool:
    """The other opinion."""
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def test_the_same_opinion_as_openssl_on_signatures_that_were_touched(tmp_path: Path) -> None:
    chance = random.Random(2)
    cases = []
    for number in range(120):
        private = Ed25519PrivateKey.from_private_bytes(chance.randbytes(32))
        message = chance.randbytes(number)
        parts = [private.public_key().public_bytes_raw(), private.sign(message), message]
        if number % 3:
            touched = chance.randrange(3 if message else 2)
            text = bytearray(parts[touched])
            text[chance.randrange(len(text))] ^= 1 << chance.randrange(8)
            parts[touched] = bytes(text)
        cases.append(parts)
    verdicts = asked(tmp_path, signed=[[part.hex() for part in case] for case in cases])["verdicts"]
    assert verdicts == [openssl_says(*case) for case in cases]
    assert (True in verdicts, False in verdicts) == (True, True)


def test_what_only_looks_like_a_signature(tmp_path: Path) -> None:
    private = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    key, message = private.public_key().public_bytes_raw(), b"one kWh"
    good = private.sign(message)
    scalar = int.from_bytes(good[32:], "little")
    bad = {
        "a second scalar for the same signature": (
            key,
            good[:32] + (scalar + ORDER).to_bytes(32, "little"),
            message,
        ),
        "too short": (key, good[:63], message),
        "too long": (key, good + b"\0", message),
        "nothing": (key, bytes(64), message),
        "a key beyond the field": (FIELD.to_bytes(32, "little"), good, message),
        "a key that is no point": ((2).to_bytes(32, "little"), good, message),
        "a short key": (key[:31], good, message),
    }
    signed = [[part.hex() for part in case] for case in ((key, good, message), *bad.values())]
    verdicts = asked(tmp_path, signed=signed)["verdicts"]
    assert verdicts == [True, *[False] * len(bad)]
    assert not any(openssl_says(*case) for case in bad.values())


def test_kwh_as_text(tmp_path: Path) -> None:
    numbers = [0, 1, 999_999, 1_000_000, -1, -1_234_567, EXACT_MAX, -EXACT_MAX, 10**20 + 1]
    assert asked(tmp_path, numbers=[str(number) for number in numbers])["kwh"] == [
        format_kwh(number) for number in numbers
    ]
