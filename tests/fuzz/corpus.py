"""What the fuzzing begins with: the vectors of the wire format, good and bad, sound frames, the example site."""

import functools
import json
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from agent.adapters.keys import PublicKeys, load_public_key
from agent.protocol.dlt645 import FORWARD_TOTAL, DltFrame
from agent.reporting.envelope import EnvelopeError, base64url_decode, signing_input_hash
from agent.resources import config_path
from tests.schemas.examples import EXAMPLES

VECTORS = Path(__file__).parents[1] / "vectors"
CRASHERS = Path(__file__).parent / "crashers"


@functools.cache
def known_keys() -> PublicKeys:
    """The public keys of the vectors."""
    return PublicKeys(load_public_key(file) for file in sorted((VECTORS / "keys").glob("*.pem")))


@functools.cache
def messages() -> tuple[bytes, ...]:
    """Every message of the vectors, good and bad."""
    found: list[bytes] = []
    for file in sorted(VECTORS.rglob("*.jws")):
        found += file.read_bytes().splitlines()
    for file in (*sorted((VECTORS / "bad").rglob("*.json")), VECTORS / "good" / "tolerated.json"):
        for vector in json.loads(file.read_text()).get("vectors", []):
            found += [message["jws"].encode() for message in vector["messages"]]
    return tuple(dict.fromkeys(found))


@functools.cache
def known_hashes() -> frozenset[str]:
    """What was signed in the vectors; nobody can sign anything else."""
    return frozenset(_hashes())


def _hashes() -> Iterator[str]:
    for message in messages():
        try:
            yield signing_input_hash(message)
        except EnvelopeError:
            continue


def _payloads() -> list[bytes]:
    found = [json.dumps(value, ensure_ascii=False).encode() for _, value, _ in EXAMPLES.values()]
    for message in messages():
        try:
            found.append(base64url_decode(message.decode("ascii").split(".")[1]))
        except (ValueError, IndexError):
            continue
    return list(dict.fromkeys(found))


def _rtu() -> list[bytes]:
    words = bytes(range(4))
    one = bytes((0, 0, 5, 1))
    return [
        one + bytes((6, 4)) + words,
        one + bytes((6, 5 << 3 | 2)) + b"\x01\x83\x02\x00\x00",
        one + bytes((6, 3 << 3 | 0)) + b"\x01\x03\x04" + bytes((6, 6)),
        one + bytes((6, 7, 6, 4)) + words + bytes((4,)) + words,
    ]


def _dlt() -> list[bytes]:
    data = FORWARD_TOTAL.to_bytes(4, "little") + b"\x78\x56\x34\x12"
    address = bytes.fromhex("563412907856")
    frames = [
        DltFrame(address, 0x91, data),
        DltFrame(address, 0xD1, b"\x02"),
        DltFrame(address, 0x93, address),
    ]
    return [bytes((choice, 0, 0)) + frame.encode() for frame in frames for choice in (0, 2)]


def _mbap() -> list[bytes]:
    reply = b"\x03\x04\x00\x01\x02\x03"
    return [
        bytes((0, 0, 0, 1)) + b"\x00\x01\x00\x00\x00\x07\x01" + reply,
        bytes((0, 0, 0, 1)) + b"\x00\x01\x00\x00\x00\x03\x01\x83\x02" * 2,
    ]


def _decode() -> list[bytes]:
    return [
        bytes((kind, 3, 0, 0)) + struct.pack(">d", 1234.5)[:size] for kind in range(13) for size in (2, 4, 8)
    ]


def _packets() -> list[bytes]:
    connect = b"\x00\x04MQTT\x05\x02\x00\x3c\x05\x11\x00\x00\x00\x10\x00\x02gw"
    publish = b"\x00\x03a/b\x00\x01\x0b\x03\x00\x04text\x02\x00\x00\x00\x09hello"
    return [
        b"\x00\x10" + connect,
        b"\x01\x12" + publish,
        b"\x02\x12\x00\x01\x00\x00\x03a/#\x01",
        b"\x03\x12\x00\x01\x00\x00\x03a/#",
        b"\x04\x10\x00\x01\x10",
        b"\x05\x10\x04\x05\x11\x00\x00\x00\x01",
    ]


def seeds(name: str) -> list[bytes]:
    """Where the fuzzing of a target begins, its earlier findings included."""
    found = sorted((CRASHERS / name).glob("*")) if (CRASHERS / name).is_dir() else []
    return [file.read_bytes() for file in found] + _SEEDS[name]()


def _tomls() -> list[bytes]:
    """The paragraphs of the example site, the head of a profile, and what TOML has besides."""
    profile = sorted(config_path("profiles").glob("*.toml"))[0].read_bytes()[:1_000]
    paragraphs = (*config_path("site.example.toml").read_bytes().split(b"\n\n"), *profile.split(b"\n\n"))
    odd = (
        b'a.b = [1, "x"]\n[[m]]\nc = { d = """\nq""" }\n[m.n]\n',
        b"a = 1979-05-27T07:32:00Z\r\nb = 1e9\r\nc = -inf\r\nd = 0x_f\n'e.f' = '''\n'''\n",
        b'"\\u00e9" = [\n 1, # one\n [2,\n 3], {a.b = 4},\n]\n[[x.y]]\n[x.y.z]\n[[x.y]]\nk = true',
    )
    return [*odd, *(text + b"\n" for text in dict.fromkeys(paragraphs) if b"=" in text)]


def _sites() -> list[bytes]:
    """Edits of each kind (`sites`): alone, and two after one another."""
    single = [bytes((edit, path, 7 * path & 255, 3)) for edit in range(8) for path in range(0, 60, 11)]
    return [*single, *(one + other for one, other in zip(single, reversed(single), strict=True))]


_SEEDS: Mapping[str, Callable[[], list[bytes]]] = {
    "rtu": _rtu,
    "mbap": _mbap,
    "dlt645": _dlt,
    "decode": _decode,
    "json": _payloads,
    "envelope": lambda: list(messages()),
    "payload": lambda: [bytes((kind,)) + each for each in _payloads() for kind in range(6)],
    "packets": _packets,
    "toml": _tomls,
    "site": _sites,
}
