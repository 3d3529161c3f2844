"""The two readers that judge the vectors: the auditor's `verify`, and the reference platform."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.adapters.keys import PublicKeys, public_key_of_jwk
from agent.reporting.acknowledgement import Acknowledgement
from agent.reporting.envelope import ACKNOWLEDGEMENT, open_sealed
from agent.reporting.verdict import Report
from agent.reporting.verify import Verifier
from simulators.platform import Outgoing, Platform, Store, queries
from tests.vectors.builder import AGENT, AUDIENCE, GATEWAY, NEIGHBOUR, ORG, PLATFORM, START_MS, Signing

FOLDER = Path(__file__).parent


def lines(name: str) -> list[bytes]:
    """The messages of a .jws file."""
    return (FOLDER / name).read_bytes().splitlines()


def ring(*keys: Signing) -> PublicKeys:
    """The registered keys."""
    return PublicKeys([public_key_of_jwk(key.jwk) for key in keys])


def verified(messages: Iterable[bytes]) -> Report:
    """What `verify` says to a file that holds these messages."""
    verifier = Verifier(ring(GATEWAY), ring(PLATFORM), admit=lambda jwk: PublicKeys([public_key_of_jwk(jwk)]))
    for number, message in enumerate(messages, 1):
        verifier.feed(number, message)
    return verifier.report()


@dataclass
class HandClock:
    """Stands still until it is moved."""

    now_ms: int = START_MS

    def wall_ms(self) -> int:
        """The hand's position."""
        return self.now_ms


@dataclass(frozen=True)
class Picture:
    """Everything in the platform's store that a message may change, and what it answered so far."""

    head: object
    energy: dict[str, int]
    evidence: tuple[str, ...]
    staged: int
    held: int
    alarms: dict[tuple[str, str, str], int]
    statuses: tuple[Any, ...]
    refused: frozenset[str]


@dataclass
class Bench:
    """A platform with two registered gateways, ours and a neighbour."""

    answers: list[Acknowledgement] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = Store.create(":memory:")
        self.clock = HandClock()
        keys = {
            (ORG, AGENT): [public_key_of_jwk(GATEWAY.jwk)],
            (ORG, "gw02"): [public_key_of_jwk(NEIGHBOUR.jwk)],
        }
        self.platform = Platform(self.store, audience=AUDIENCE, signer=PLATFORM, keys=keys, clock=self.clock)

    def send(self, topic: str, message: bytes) -> None:
        """Hand one message over, and let the time pass in which it is answered."""
        self._open(self.platform.receive(topic, message))
        self.clock.now_ms += 5_000
        self._open(self.platform.tick(self.clock.now_ms))

    def _open(self, outgoing: Iterable[Outgoing]) -> None:
        for each in outgoing:
            opened = open_sealed(each.payload, ACKNOWLEDGEMENT, ring(PLATFORM))
            self.answers.append(Acknowledgement.from_payload(opened.payload))

    def picture(self) -> Picture:
        """Where the platform stands."""
        assert queries.broken_books(self.store) == []
        count = self.store.one
        totals = queries.totals(self.store)[f"{ORG}/{AGENT}"]
        return Picture(
            head=queries.head(self.store, ORG, AGENT),
            energy={name: meter.energy_milliwh for name, meter in sorted(totals.meters.items())},
            evidence=tuple(
                row[0] for row in self.store.rows("SELECT reason FROM evidence ORDER BY evidence_id")
            ),
            staged=count("SELECT count(*) FROM staged")[0],
            held=count("SELECT count(*) FROM held")[0],
            alarms={(each.agent, each.kind, each.subject): each.count for each in queries.alarms(self.store)},
            statuses=tuple(self.store.rows("SELECT * FROM statuses")),
            refused=frozenset(chain for answer in self.answers for chain in answer.refused),
        )
