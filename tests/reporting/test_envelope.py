"""The pitfalls of the wire format's section 8, one test each, and two referees that share no code with us."""

import base64
import hashlib
import hmac
import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwk as joserfc_jwk
from joserfc import jws as joserfc_jws

from agent.reporting.envelope import (
    ACKNOWLEDGEMENT,
    BATCH,
    DESCRIPTOR,
    ENROLMENT,
    SIZE_MAX,
    STATUS,
    EnvelopeError,
    UnparsablePayload,
    base64url,
    base64url_decode,
    jwk_of_ed25519,
    open_sealed,
    seal,
    signing_input_hash,
    thumbprint,
    typ_of,
)
from agent.reporting.strictjson import NotStrict, dumps
from tests.reporting.keys import Key, Ring

KEY = Key(1)
STRANGER = Key(2)
PAYLOAD: dict[str, object] = {"v": "1.0", "step": "回流焊", "delta": 123}


def forged(header: object, payload: bytes = b'{"v":"1.0"}', key: Key = KEY) -> bytes:
    """A message with any header and payload, signed by the key as it stands."""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    signed = f"{base64url(head)}.{base64url(payload)}".encode()
    return signed + b"." + base64url(key.sign(signed)).encode()


def header(**changes: object) -> dict[str, object]:
    """The right header, with changes; None takes a member away."""
    members = {"alg": "Ed25519", "typ": BATCH, "kid": KEY.kid, **changes}
    return {name: value for name, value in members.items() if value is not None}


def verdict_on(jws: bytes, typ: str = BATCH) -> str:
    """Why a message is not believed."""
    with pytest.raises(EnvelopeError) as caught:
        open_sealed(jws, typ, Ring(KEY))
    return caught.value.verdict


# ---------------------------------------------------------------------------- the honest way


def test_a_sealed_message_opens_as_it_was() -> None:
    jws = seal(BATCH, PAYLOAD, KEY)
    opened = open_sealed(jws, BATCH, Ring(STRANGER, KEY))
    assert opened.payload == PAYLOAD
    assert (opened.typ, opened.kid, opened.alg, opened.jws) == (BATCH, KEY.kid, "Ed25519", jws)
    assert opened.hash == signing_input_hash(jws)
    assert typ_of(jws) == BATCH


def test_the_header_has_exactly_three_members_in_their_order() -> None:
    text = seal(BATCH, PAYLOAD, KEY).split(b".")[0].decode()
    expected = f'{{"alg":"Ed25519","typ":"kwh-batch+jws","kid":"{KEY.kid}"}}'
    assert base64url_decode(text).decode() == expected


def test_the_hash_is_sha256_of_everything_before_the_second_dot() -> None:
    jws = seal(BATCH, PAYLOAD, KEY)
    signed = b".".join(jws.split(b".")[:2])
    expected = base64.urlsafe_b64encode(hashlib.sha256(signed).digest()).rstrip(b"=").decode()
    assert signing_input_hash(jws) == expected
    assert len(expected) == 43


@given(st.binary(max_size=80))
def test_base64url_is_that_of_the_standard_library_without_padding(data: bytes) -> None:
    text = base64.urlsafe_b64encode(data).decode().rstrip("=")
    assert base64url(data) == text
    assert base64url_decode(text) == data


def test_the_thumbprint_is_the_one_of_rfc_8037() -> None:
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "use": "sig"}
    assert thumbprint(jwk) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    assert jwk_of_ed25519(base64url_decode(jwk["x"])) == {n: jwk[n] for n in ("kty", "crv", "x")}


@pytest.mark.parametrize("jwk", [{}, {"kty": "oct", "k": "AA"}, {"kty": "OKP", "crv": "Ed25519"}])
def test_what_is_no_public_key_has_no_thumbprint(jwk: Mapping[str, str]) -> None:
    with pytest.raises(ValueError, match="public key"):
        thumbprint(jwk)


# ---------------------------------------------------------------------------- algorithm confusion


def test_no_signature_at_all_is_refused() -> None:
    head = base64url(json.dumps(header(alg="none")).encode())
    assert verdict_on(f"{head}.{base64url(dumps(PAYLOAD))}.".encode()) == "malformed"
    assert verdict_on(forged(header(alg="none"))) == "algorithm"


@pytest.mark.parametrize("secret", [KEY.raw, KEY.pem], ids=["raw", "pem"])
def test_a_mac_with_the_public_key_as_its_secret_is_refused(secret: bytes) -> None:
    signed = f"{base64url(json.dumps(header(alg='HS256')).encode())}.{base64url(dumps(PAYLOAD))}".encode()
    mac = hmac.new(secret, signed, hashlib.sha256).digest()
    assert verdict_on(signed + b"." + base64url(mac).encode()) == "algorithm"


@pytest.mark.parametrize("alg", ["EdDSA", "ES256", "Ed448", "ed25519", "RS256", "SM2", ""])
def test_another_algorithm_under_an_ed25519_key_is_refused_though_the_signature_is_good(alg: str) -> None:
    ring = Ring(KEY)
    with pytest.raises(EnvelopeError) as caught:
        open_sealed(forged(header(alg=alg)), BATCH, ring)
    assert caught.value.verdict == "algorithm"
    assert ring.asked == set()


# ---------------------------------------------------------------------------- the bytes


def test_a_flipped_last_signature_character_changes_no_hash_and_so_forks_nothing() -> None:
    jws = seal(BATCH, PAYLOAD, KEY)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    # 64 bytes are 86 characters; the last one carries two bits, and the other four are free to a forger.
    last = alphabet.index(chr(jws[-1]))
    twins = [jws[:-1] + alphabet[last & 0b110000 | unused].encode() for unused in range(16)]
    assert len(set(twins)) == 16
    assert {open_sealed(twin, BATCH, Ring(KEY)).hash for twin in twins} == {signing_input_hash(jws)}


def test_a_flipped_signature_bit_that_counts_is_found() -> None:
    jws = seal(BATCH, PAYLOAD, KEY)
    flipped = jws[:-20] + (b"A" if jws[-20:-19] != b"A" else b"B") + jws[-19:]
    assert verdict_on(flipped) == "signature"


def test_unused_bits_in_header_or_payload_make_another_message_and_are_refused() -> None:
    head, payload, signature = seal(BATCH, {"v": "1.0"}, KEY).decode().split(".")
    assert len(payload) % 4 != 0, "this payload must leave unused bits"
    with_bits = payload[:-1] + chr(ord(payload[-1]) + 1)
    signed = f"{head}.{with_bits}".encode()
    assert verdict_on(signed + b"." + base64url(KEY.sign(signed)).encode()) == "malformed"
    assert verdict_on(f"{head}.{with_bits}.{signature}".encode()) == "malformed"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda jws: jws + b"\n",
        lambda jws: b" " + jws,
        lambda jws: jws + b"=",
        lambda jws: jws.replace(b".", b"=.", 1),
        lambda jws: jws.replace(b".", b".\n", 1),
        lambda jws: jws + b".",
        lambda jws: jws + b".AAAA",
        lambda jws: b".".join(jws.split(b".")[:2]),
        lambda jws: b".".join(jws.split(b".")[:2]) + b".",
        lambda jws: jws[:-1] + "é".encode(),
        lambda jws: jws[:-1] + b"+",
        lambda jws: jws[:-1],
        lambda jws: b"",
        lambda jws: b"..",
        lambda jws: b'{"payload":"","signatures":[]}',
    ],
)
def test_padding_newlines_and_odd_shapes_are_refused(spoil: "type[bytes]") -> None:
    assert verdict_on(spoil(seal(BATCH, PAYLOAD, KEY))) in ("malformed", "signature")


def test_a_newline_is_refused_and_not_merely_unverified() -> None:
    assert verdict_on(seal(BATCH, PAYLOAD, KEY) + b"\n") == "malformed"


def test_an_edited_payload_is_found() -> None:
    head, _, signature = seal(BATCH, PAYLOAD, KEY).decode().split(".")
    edited = base64url(dumps({**PAYLOAD, "delta": 122}))
    assert verdict_on(f"{head}.{edited}.{signature}".encode()) == "signature"


# ---------------------------------------------------------------------------- the header


@pytest.mark.parametrize(
    "head",
    [
        header(jwk=STRANGER.jwk),
        header(jku="https://keys.example/jwks.json"),
        header(x5u="https://keys.example/chain.pem"),
        header(x5c=["MIIB"]),
        header(crit=["b64"], b64=False),
        header(b64=False),
        header(cty="json"),
        header(kid=None),
        header(typ=None),
        header(alg=None),
        header(kid=7),
        header(alg=None, enc="A256GCM"),
        b'{"alg":"Ed25519","typ":"kwh-batch+jws","kid":"x","alg":"none"}',
        b'{"alg":"Ed25519"',
        b"[]",
        b"\xff",
        header(kid="k" * 600),
    ],
)
def test_a_header_with_anything_but_its_three_texts_is_refused(head: object) -> None:
    assert verdict_on(forged(head)) == "header"


@pytest.mark.parametrize("typ", [DESCRIPTOR, ACKNOWLEDGEMENT, STATUS, ENROLMENT, "JWT", "kwh-batch+JWS"])
def test_a_message_of_another_kind_is_not_taken_for_a_batch(typ: str) -> None:
    assert verdict_on(forged(header(typ=typ))) == "header"


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(EnvelopeError, match="kind 'JWT' is unknown"):
        typ_of(forged(header(typ="JWT")))


def test_an_unknown_key_is_refused_before_its_signature_is_looked_at() -> None:
    ring = Ring(KEY)
    with pytest.raises(EnvelopeError) as caught:
        open_sealed(seal(BATCH, PAYLOAD, STRANGER), BATCH, ring)
    assert caught.value.verdict == "unknown-key"
    assert ring.asked == set()


def test_a_stranger_cannot_sign_under_our_kid() -> None:
    assert verdict_on(forged(header(), key=STRANGER)) == "signature"


# ---------------------------------------------------------------------------- the payload


@pytest.mark.parametrize(
    "payload",
    [
        b'{"delta":1.0}',
        b'{"delta":1e3}',
        b'{"delta":1,"delta":2}',
        b'{"delta":9007199254740992}',
        b'{"delta":NaN}',
        b'{"meter":"\\ud800"}',
        b'{"a":' + b"[" * 17 + b"]" * 17 + b"}",
        b"[]",
        b"not json",
        b"\xff\xfe",
    ],
)
def test_a_good_signature_on_an_unparsable_payload_is_evidence_with_its_hash(payload: bytes) -> None:
    jws = forged(header(), payload)
    with pytest.raises(UnparsablePayload) as caught:
        open_sealed(jws, BATCH, Ring(KEY))
    assert caught.value.verdict == "payload"
    assert (caught.value.hash, caught.value.kid) == (signing_input_hash(jws), KEY.kid)


def test_nothing_is_parsed_before_the_signature_was_checked() -> None:
    assert verdict_on(forged(header(), b'{"delta":1.0}', key=STRANGER)) == "signature"


def test_a_float_is_never_sealed() -> None:
    with pytest.raises(NotStrict):
        seal(BATCH, {"delta": 1.0}, KEY)


@pytest.mark.parametrize("typ", SIZE_MAX)
def test_the_largest_message_of_each_kind_opens_and_one_byte_more_is_neither_sealed_nor_opened(
    typ: str,
) -> None:
    room = SIZE_MAX[typ]
    fitting = next(
        size
        for size in range(room * 3 // 4, 0, -1)
        if len(_sealed_or_nothing(typ, size)) in range(room - 3, room + 1)
    )
    assert open_sealed(_sealed_or_nothing(typ, fitting), typ, Ring(KEY)).typ == typ
    with pytest.raises(EnvelopeError, match="too-large"):
        seal(typ, {"t": "x" * (fitting + 4)}, KEY)
    signed = f"{base64url(dumps(header(typ=typ)))}.{base64url(b'x' * room)}".encode()
    assert verdict_on(signed + b"." + base64url(KEY.sign(signed)).encode(), typ) == "too-large"


def _sealed_or_nothing(typ: str, size: int) -> bytes:
    try:
        return seal(typ, {"t": "x" * size}, KEY)
    except EnvelopeError:
        return b""


# ---------------------------------------------------------------------------- the referees


def test_joserfc_reads_what_we_seal() -> None:
    key = joserfc_jwk.OKPKey.import_key(dict(KEY.jwk))
    message = joserfc_jws.deserialize_compact(seal(BATCH, PAYLOAD, KEY), key, algorithms=["Ed25519"])
    assert json.loads(message.payload) == PAYLOAD
    assert message.protected == header()
    assert key.thumbprint() == KEY.kid


def test_we_read_what_joserfc_seals() -> None:
    private = base64url((1).to_bytes(32, "big"))
    key = joserfc_jwk.OKPKey.import_key({**KEY.jwk, "d": private})
    jws = joserfc_jws.serialize_compact(header(), dumps(PAYLOAD), key, algorithms=["Ed25519"])
    assert open_sealed(jws.encode(), BATCH, Ring(KEY)).payload == PAYLOAD


def test_openssl_verifies_a_signature_and_refuses_an_edited_one(tmp_path: Path) -> None:
    signed, _, signature = seal(BATCH, PAYLOAD, KEY).rpartition(b".")
    assert openssl_verifies(tmp_path, signed, signature)
    assert not openssl_verifies(tmp_path, signed + b"A", signature)


def openssl_verifies(folder: Path, signed: bytes, signature: bytes) -> bool:
    """Ask openssl, which has never seen this project."""
    openssl = shutil.which("openssl")
    assert openssl is not None, "openssl is on every Debian; install it"
    (folder / "key.pem").write_bytes(KEY.pem)
    (folder / "signed").write_bytes(signed)
    (folder / "signature").write_bytes(base64.urlsafe_b64decode(signature + b"=="))
    command = [openssl, "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", "key.pem"]
    done = subprocess.run(
        [*command, "-in", "signed", "-sigfile", "signature"], cwd=folder, capture_output=True, check=False
    )
    assert (done.returncode == 0) == (b"Signature Verified Successfully" in done.stdout)
    return done.returncode == 0
