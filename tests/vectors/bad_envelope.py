"""Messages that must not be believed: nobody known has vouched for these bytes."""

import hashlib
import hmac
from collections.abc import Callable

from tests.vectors.builder import (
    ACKNOWLEDGEMENT,
    BATCH,
    DESCRIPTOR,
    GATEWAY,
    NEIGHBOUR,
    PLATFORM,
    STATUS,
    STRANGER,
    TPM,
    Json,
    b64,
    compact,
    jws,
    resigned,
)
from tests.vectors.vector import REJECTED, SIGNATURE, Group, Vector, basis, to_batch

_L = 2**252 + 27742317777372353535851937790883648493
"""Order of the Ed25519 base point."""


def make() -> Group:
    """Algorithms, headers, signatures, and texts that are no compact JWS."""
    group = Group("The signature verdict: not one byte of these messages is believed.")
    _algorithms(group)
    _headers(group)
    _signatures(group)
    _texts(group)
    return group


def _next() -> Json:
    line = basis()
    return line.batch(line.minute(m1=1_000, m2=2_000))


def _add(group: Group, name: str, about: str, message: str, verdict: str) -> None:
    group.add(Vector(name, about, to_batch(message), (SIGNATURE,), verdict, REJECTED, verdict))


def _hmac(secret: bytes) -> Callable[[bytes], bytes]:
    return lambda data: hmac.new(secret, data, hashlib.sha256).digest()


def _algorithms(group: Group) -> None:
    payload, kid = _next(), GATEWAY.kid

    def header(alg: object) -> Json:
        return {"alg": alg, "typ": BATCH, "kid": kid}

    for name, secret in (
        ("raw", GATEWAY.raw),
        ("pem", GATEWAY.pem.encode()),
        ("jwk", compact(GATEWAY.jwk)),
    ):
        message = jws(payload, header=header("HS256"), sign=_hmac(secret))
        about = f"HS256 with the public key ({name}) as the secret: anybody can make it"
        _add(group, f"alg-hs256-public-key-{name}", about, message, "algorithm")
    unsigned = ".".join(b64(compact(part)) for part in (header("none"), payload))
    _add(group, "alg-none-empty-signature", "alg none, no signature", unsigned + ".", "malformed")
    _add(group, "alg-none-any-signature", "alg none, some signature", unsigned + ".AAAA", "algorithm")
    message = jws(payload, header=header("nOnE"))
    _add(group, "alg-none-odd-case", "alg nOnE with a good Ed25519 signature", message, "algorithm")
    message = jws(payload, header=header("EdDSA"))
    _add(
        group, "alg-eddsa", "the deprecated name of the same algorithm, good signature", message, "algorithm"
    )
    message = jws(payload, header=header("ES256"), sign=TPM.sign)
    _add(
        group,
        "alg-es256-under-ed25519-kid",
        "ES256 by another key under an Ed25519 kid",
        message,
        "algorithm",
    )
    message = jws(payload, header=header("ed25519"))
    _add(group, "alg-lower-case", "names of algorithms are case-sensitive", message, "algorithm")
    message = jws(payload, header=header(["Ed25519"]))
    _add(group, "alg-array", "alg is an array", message, "header")
    message = jws(payload, header=header(None))
    _add(group, "alg-null", "alg is null", message, "header")


def _headers(group: Group) -> None:
    payload = _next()
    good = {"alg": "Ed25519", "typ": BATCH, "kid": GATEWAY.kid}
    extras: dict[str, object] = {
        "jwk": STRANGER.jwk,
        "jku": "https://attacker.example/keys.json",
        "x5u": "https://attacker.example/chain.pem",
        "x5c": ["MIIB"],
        "crit": ["exp"],
        "b64": True,
        "cty": "json",
        "zip": "DEF",
    }
    for member, value in extras.items():
        message = jws(payload, header={**good, member: value})
        _add(group, f"header-{member}", f"a header with {member}, signed by the gateway", message, "header")
    message = jws(payload, STRANGER, header={**good, "jwk": STRANGER.jwk})
    _add(
        group,
        "header-jwk-of-the-attacker",
        "signed by the key that the header brings along",
        message,
        "header",
    )
    unencoded = b64(compact({**good, "b64": False, "crit": ["b64"]})) + "."
    signature = b64(GATEWAY.sign(unencoded.encode() + compact(payload)))
    message = f"{unencoded}{b64(compact(payload))}.{signature}"
    _add(group, "header-b64-false", "an unencoded payload (RFC 7797)", message, "header")
    for member in good:
        header = {name: value for name, value in good.items() if name != member}
        _add(
            group,
            f"header-without-{member}",
            f"a header without {member}",
            jws(payload, header=header),
            "header",
        )
    for typ, what in (
        (STATUS, "a status"),
        (ACKNOWLEDGEMENT, "an acknowledgement"),
        (DESCRIPTOR, "a descriptor"),
    ):
        line = basis()
        key = PLATFORM if typ == ACKNOWLEDGEMENT else GATEWAY
        payloads: dict[str, Json] = {
            STATUS: line.status(),
            ACKNOWLEDGEMENT: line.acknowledgement(1),
            DESCRIPTOR: line.descriptor_payload(),
        }
        vector = Vector(
            f"typ-{typ.removesuffix('+jws')}-as-batch",
            f"{what}, signed for what it is, on the topic of batches. A file has no topics: there it is no fault",
            to_batch(jws(payloads[typ], key, typ)),
            (),
            "",
            REJECTED,
            "header",
            read_by_verify=False,
        )
        group.add(vector)
    for name, typ in (
        ("other", "JWT"),
        ("upper-case", BATCH.upper()),
        ("media-type", f"application/{BATCH}"),
    ):
        message = jws(payload, header={**good, "typ": typ})
        _add(group, f"typ-{name}", f"typ {typ}", message, "header")
    raw = compact(good)
    for name, about, text in (
        ("header-duplicate-alg", "alg twice, the good one last", raw.replace(b"{", b'{"alg":"none",', 1)),
        ("header-duplicate-kid", "kid twice", raw[:-1] + b',"kid":"' + GATEWAY.kid.encode() + b'"}'),
        ("header-not-json", "a header that is not JSON", b"Ed25519"),
        ("header-array", "a header that is an array", b'["Ed25519"]'),
        ("header-bom", "a byte order mark before the header", b"\xef\xbb\xbf" + raw),
        ("header-bad-utf8", "a header with a byte that is not UTF-8", raw[:-1] + b',"\xff":1}'),
    ):
        _add(group, name, about, jws(payload, header=text), "header")
    message = jws(payload, STRANGER)
    _add(group, "kid-unknown", "signed by a key that nobody registered", message, "unknown-key")
    message = jws(payload, NEIGHBOUR)
    _add(group, "kid-of-the-neighbour", "signed by another gateway's registered key", message, "unknown-key")
    message = jws(payload, header={**good, "kid": GATEWAY.kid + "="})
    _add(group, "kid-padded", "the right kid with padding", message, "unknown-key")
    message = jws(payload, header={**good, "kid": "../../" + GATEWAY.kid})
    _add(group, "kid-path", "a kid that would be a path", message, "unknown-key")
    message = jws(payload, PLATFORM)
    _add(group, "kid-of-the-platform", "the platform's key signs no batches", message, "unknown-key")


def _flipped(message: str, byte: int, bit: int) -> str:
    signed, _, _ = message.rpartition(".")
    signature = bytearray(GATEWAY.sign(signed.encode()))
    signature[byte] ^= 1 << bit
    return f"{signed}.{b64(bytes(signature))}"


def _signatures(group: Group) -> None:
    payload = _next()
    good = jws(payload)
    signed, _, _ = good.rpartition(".")
    signature = GATEWAY.sign(signed.encode())
    for byte, bit in ((0, 0), (31, 7), (32, 0), (63, 5)):
        about = f"bit {bit} of byte {byte} of the signature is flipped"
        _add(group, f"signature-bit-{byte}-{bit}", about, _flipped(good, byte, bit), "signature")
    s = int.from_bytes(signature[32:], "little") + _L
    twin = signature[:32] + s.to_bytes(32, "little")
    about = "S + L in place of S: a verifier that does not compare S with L takes it"
    _add(group, "signature-malleable", about, f"{signed}.{b64(twin)}", "signature")
    for name, bytes_ in (
        ("short", signature[:63]),
        ("long", signature + b"\0"),
        ("zero", bytes(64)),
        ("one-byte", b"\0"),
    ):
        _add(
            group,
            f"signature-{name}",
            f"a signature of {len(bytes_)} bytes",
            f"{signed}.{b64(bytes_)}",
            "signature",
        )
    message = jws(payload, STRANGER, header={"alg": "Ed25519", "typ": BATCH, "kid": GATEWAY.kid})
    _add(
        group, "signature-of-a-stranger", "the gateway's kid, somebody else's signature", message, "signature"
    )
    changed = jws({**payload, "sw": "6.6.6"}).rpartition(".")[0] + "." + b64(signature)
    _add(group, "payload-changed", "one text of the payload changed after signing", changed, "signature")
    other = basis().log[1]
    header, body, _ = good.split(".")
    message = f"{header}.{body}.{other.rpartition('.')[2]}"
    _add(group, "signature-of-another-batch", "the signature of batch 2 under batch 4", message, "signature")
    message = f"{b64(compact({'typ': BATCH, 'alg': 'Ed25519', 'kid': GATEWAY.kid}))}.{body}.{b64(signature)}"
    _add(group, "header-rewritten", "the same header with its members in another order", message, "signature")


def _texts(group: Group) -> None:
    payload = _next()
    good = jws(payload)
    header, body, signature = good.split(".")
    # A payload whose length leaves unused bits in the last character, written with one of them set, and so signed.
    loose = next(
        text
        for text in (b64(compact({**payload, "sw": "1.0.0" + "+" * count})) for count in range(3))
        if len(text) % 4
    )
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    loose = loose[:-1] + alphabet[alphabet.index(loose[-1]) + 1]
    standard = b64(compact({**payload, "sw": "??>>??>>~~~"}))
    for name, about, message in (
        ("text-padding", "padding after the signature", good + "=="),
        (
            "text-padding-in-the-payload",
            "padding after the payload, and so signed",
            resigned(f"{header}.{body}="),
        ),
        (
            "text-newline-inside",
            "a newline inside the payload, and so signed",
            resigned(f"{header}.{body[:8]}\n{body[8:]}"),
        ),
        ("text-newline-between", "a newline between payload and signature", f"{header}.{body}\n.{signature}"),
        (
            "text-space-inside",
            "a space inside the payload, and so signed",
            resigned(f"{header}.{body[:8]} {body[8:]}"),
        ),
        ("text-null-byte", "a NUL at the end", good + "\0"),
        (
            "text-non-canonical",
            "unused bits of the payload's last character set, and so signed",
            resigned(f"{header}.{loose}"),
        ),
        (
            "text-standard-alphabet",
            "base64 with + and /, and so signed",
            resigned(f"{header}.{standard.replace('-', '+').replace('_', '/')}"),
        ),
        (
            "text-impossible-length",
            "a payload of 4k+1 characters, and so signed",
            resigned(f"{header}.{body + 'A' * ((1 - len(body)) % 4)}"),
        ),
        ("text-two-parts", "header and payload only", f"{header}.{body}"),
        ("text-four-parts", "a part too many", f"{good}.{signature}"),
        ("text-five-parts", "the form of an encrypted message (JWE)", f"{header}..{body}.{body}.{signature}"),
        ("text-detached", "a detached payload", f"{header}..{signature}"),
        (
            "text-json-form",
            "the JSON form of a JWS",
            compact({"protected": header, "payload": body, "signature": signature}).decode(),
        ),
        ("text-not-ascii", "a letter that looks like another", good.replace("e", "\u0435", 1)),
        ("text-bare-json", "the payload without any signature", compact(payload).decode()),
        ("text-words", "no message at all", "hello"),
    ):
        _add(group, name, about, message, "malformed")
    line = basis()
    notes = [line.event("restart", reason="x" * 255) for _ in range(130)]
    message = jws(line.batch(line.minute(m1=1_000), notes))
    _add(group, "text-oversize", "a good batch of more than 48 KiB", message, "too-large")
