"""A fuzzer for the DL/T 645 codec and its transaction; `python -m tests.protocol.dlt_noise 1000000` is the long run.

Every round asks one meter one question in virtual time and lets something arrive: the right reply, whole or cut, with
noise around it, damaged in one bit, of another meter, identifier or function, a refusal, an echo, or plain noise. Right
data are those of the meter and identifier that were asked for; anything else that is accepted is wrong.
"""

import random
import sys
import time
import zlib
from dataclasses import dataclass

from agent.metering.plant import SerialSettings
from agent.protocol.dlt645 import DltFrame, DltRequest, address_bytes, data_of
from agent.protocol.dlt_master import DltMaster
from agent.protocol.events import Event, Failed, Send, WaitUntil, Words
from agent.protocol.silence import Silence

MS = 1_000_000
SETTINGS = SerialSettings(2400, "even", 1)
METERS = ("000000000161", "161616161616", "686868681668", "0001FE16FEFE", "991668FE1600")
IDENTIFIERS = (0x00010000, 0x00020000, 0x02010100, 0x00016816)


@dataclass
class Count:
    """How many rounds ended how."""

    right: int = 0
    wrong: int = 0
    nothing: int = 0
    lost: int = 0


def truth(meter: str, identifier: int, size: int = 4) -> bytes:
    """What a meter keeps there: no two places have the same."""
    return zlib.crc32(f"{meter}/{identifier}".encode()).to_bytes(4, "little")[:size]


def fuzzed(rounds: int, seed: int) -> Count:
    """Run so many rounds."""
    chance = random.Random(seed)
    master, now_ns, count = DltMaster(Silence(SETTINGS)), 1_000 * MS, Count()
    for _ in range(rounds):
        meter, identifier = chance.choice(METERS), chance.choice(IDENTIFIERS)
        asked = "AAAAAAAAAAAA" if chance.random() < 0.1 else meter
        request = DltRequest(asked, identifier, 4)
        good = DltFrame(
            address_bytes(meter), 0x91, identifier.to_bytes(4, "little") + truth(meter, identifier)
        )
        arriving, whole = _arriving(chance, good)
        end, now_ns = _transaction(master, request, now_ns, arriving, chance)
        if isinstance(end, Words):
            sender = end.sender or ""
            matching = end.words and data_of(end.words, 4) == truth(sender, identifier)
            asked_for = asked.startswith("A") or sender == asked
            count.right += bool(matching and asked_for)
            count.wrong += not (matching and asked_for)
        else:
            count.lost += whole
            count.nothing += 1
    return count


def _arriving(chance: random.Random, good: DltFrame) -> tuple[bytes, bool]:
    """What the line delivers, and whether the right answer is whole in it."""
    reply = good.encode(b"\xfe" * chance.randrange(7))
    kind = chance.randrange(10)
    if kind <= 2:
        return _noise(chance) + reply + _noise(chance), False
    if kind == 3:
        return reply, True
    if kind == 4:
        return reply[: chance.randrange(len(reply))], False
    if kind == 5:
        damaged = bytearray(reply)
        damaged[chance.randrange(len(reply))] ^= 1 << chance.randrange(8)
        return bytes(damaged), False
    if kind == 6:
        other = chance.choice(METERS)
        di = chance.choice(IDENTIFIERS)
        data = di.to_bytes(4, "little") + truth(other, di, chance.choice((2, 4, 4, 4)))
        control = chance.choice((0x11, 0x91, 0x91, 0x92, 0x93, 0xB1))
        return DltFrame(address_bytes(other), control, data).encode(), False
    if kind == 7:
        return DltFrame(good.address, 0xD1, chance.randbytes(1)).encode(), False
    if kind == 8:
        return chance.randbytes(chance.randrange(60)), False
    return b"", False


def _noise(chance: random.Random) -> bytes:
    return bytes(chance.choice((0x68, 0x16, 0xFE, chance.randrange(256))) for _ in range(chance.randrange(9)))


def _transaction(
    master: DltMaster, request: DltRequest, now_ns: int, arriving: bytes, chance: random.Random
) -> tuple[Words | Failed, int]:
    """One request; what arrives comes in one to three pieces after its end."""
    cuts = sorted(chance.randrange(len(arriving) + 1) for _ in range(chance.randrange(3)))
    pieces = [arriving[a:b] for a, b in zip([0, *cuts], [*cuts, len(arriving)], strict=True) if b > a]
    events: list[Event] = master.begin(now_ns, request, timeout_ns=100 * MS)
    wait_ns, sent = now_ns, False
    while True:
        for event in events:
            match event:
                case Words() | Failed():
                    return event, now_ns + 20 * MS
                case Send(data):
                    now_ns, sent = now_ns + len(data) * 5 * MS, True
                case WaitUntil(at_ns):
                    wait_ns = at_ns
        if sent and pieces:
            now_ns += 5 * MS
            events = master.receive(now_ns, pieces.pop(0))
        else:
            now_ns = max(now_ns, wait_ns)
            events = master.tick(now_ns)


if __name__ == "__main__":
    begun = time.monotonic()
    total = fuzzed(int(sys.argv[1]), seed=int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    print(f"{total} in {time.monotonic() - begun:.0f} s")
