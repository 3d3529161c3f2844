"""The parsers by name, each with what must hold for any bytes; and a plain mutation loop where no tool is there."""

import random
from collections.abc import Callable, Iterator, Mapping

from tests.fuzz import framing, messages, sites
from tests.fuzz.corpus import seeds

TARGETS: Mapping[str, Callable[[bytes], None]] = {
    "rtu": framing.check_rtu,
    "mbap": framing.check_mbap,
    "dlt645": framing.check_dlt645,
    "decode": framing.check_decode,
    "json": messages.check_json,
    "envelope": messages.check_envelope,
    "payload": messages.check_payload,
    "packets": messages.check_packets,
    "toml": messages.check_toml,
    "site": sites.check_site,
}

_ODD = (
    b"\0",
    b"\xff",
    b"\x7f\xff",
    b"\x80",
    b'"',
    b"\\",
    b"{",
    b"[",
    b".",
    b"1e9",
    b"-0",
    b"null",
    b"\xed\xa0\x80",
)


def mutants(name: str, runs: int, seed: int = 0) -> Iterator[bytes]:
    """The seeds of a target, damaged in one to eight places: the same for the same seed."""
    chance, corpus = random.Random(f"{name} {seed}"), seeds(name)
    for _ in range(runs):
        data = bytearray(chance.choice(corpus))
        for _ in range(chance.randint(1, 8)):
            _mutate(chance, data, corpus)
        yield bytes(data)


def _mutate(chance: random.Random, data: bytearray, corpus: list[bytes]) -> None:
    here = chance.randrange(len(data) + 1)
    there = min(len(data), here + chance.choice((1, 1, 2, 4, 16)))
    match chance.randrange(6):
        case 0:
            data[here:there] = b""
        case 1:
            data[here:here] = chance.choice(_ODD)
        case 2:
            data[here:there] = chance.choice(_ODD)
        case 3 if here < len(data):
            data[here] ^= 1 << chance.randrange(8)
        case 4:
            data[here:here] = data[here:there] * chance.choice((1, 2, 20))
        case _:
            other = chance.choice(corpus)
            at = chance.randrange(len(other) + 1)
            data[here:there] = other[at : at + chance.choice((1, 4, 32))]
