"""A bad vector: honest batches, the messages of a liar or a fault, and what everybody must make of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.vectors.builder import BATCH, NEXT, Json, Line, meter, topic

SIGNATURE, CHAIN, CONSERVATION = "signature", "chain", "conservation"

# What the platform does with it; the README explains each.
REJECTED, EVIDENCE, FORK, REFUSED, STAGED = "rejected", "evidence", "fork", "refused-chain", "staged"
HELD, ALARMED, BOOKED, NOTHING = "held", "alarmed", "booked", "nothing"


@dataclass(frozen=True)
class Vector:
    """One vector.

    `before` honest batches of `basis` come first, then `messages`, each with its topic. `fails` are the verdicts of
    `verify` that must not hold, and `finding` stands in one of their findings. `platform` is what the platform does,
    `alarm` the kind of its alarm, `booked` the energy by meter that it has afterwards (None: as before the messages).
    `edge` says whether an agent believes it where it is sent to an agent.
    """

    name: str
    about: str
    messages: Sequence[tuple[str, str]]
    fails: tuple[str, ...]
    finding: str
    platform: str
    alarm: str | None = None
    before: int = 3
    basis: str = "basis"
    booked: dict[str, int] | None = None
    edge: str | None = None
    read_by_verify: bool = True

    def as_json(self) -> Json:
        """As it stands in its file."""
        made: Json = {
            "name": self.name,
            "about": self.about,
            "basis": f"{self.basis}.jws",
            "before": self.before,
            "messages": [{"topic": where, "jws": text} for where, text in self.messages],
            "verify": {"fails": list(self.fails), "finding": self.finding} if self.read_by_verify else None,
            "platform": {"verdict": self.platform, "alarm": self.alarm, "booked": self.booked},
        }
        if self.edge is not None:
            made["edge"] = self.edge
        return made


@dataclass
class Group:
    """A file of vectors."""

    about: str
    vectors: list[Vector] = field(default_factory=list)

    def add(self, vector: Vector) -> None:
        self.vectors.append(vector)


def basis(batches: int = 3) -> Line:
    """An honest gateway with two meters; m2 has neither a known modulus nor a serial number."""
    line = Line([meter("m1"), meter("m2", modulus=None, serial=None)])
    for number in range(batches):
        line.say(line.minute(m1=1_000, m2=2_000), line.carried() if number == 0 else ())
    return line


def rotated() -> Line:
    """The same gateway, whose key ended with batch 3 and which signs batch 4 with the next one."""
    line = basis(2)
    line.say([], [line.rotation(NEXT)])
    line.key = NEXT
    line.say(line.minute(m1=1_000, m2=2_000))
    return line


BASES = {"basis": lambda: basis(4), "rotated": rotated}


def to_batch(*messages: str) -> list[tuple[str, str]]:
    """Messages on the topic of batches."""
    return [(topic(BATCH), message) for message in messages]
