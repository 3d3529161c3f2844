"""What the gates have to remember of a meter across a restart, and what a person says of it.

A register tells nothing of the meter behind it. Whether that is still the same one is told by its serial number where
it can be read, and otherwise only by what was so before: where it hangs, how its settings stood, how long nobody saw
it. So these are kept beside the ledger's position, in the journal: a restart must not make the gates forget.

Used by `agent.service.deciding`; `agent.service.gatekeeping` keeps it.
"""

from dataclasses import dataclass, replace

from agent.metering.doubt import READS
from agent.metering.ledger import Point

SILENT_MS = 3_600_000
"""After so long without a reading nobody knows whether the same meter answers (design, section 7)."""

Fingerprint = tuple[tuple[str, tuple[int, ...] | None], ...]
"""Words of the registers that change what the energy register means; None for one that the meter does not have."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered of one meter.

    `place` is the line and address at which it was read last, `profile_hash` the profile under which `fingerprint` was
    read; None where nothing was kept yet, which is evidence of nothing.

    `returned_ms` is when it came back without a proof of who it is, None where there is nothing to confirm; `proofs`
    counts the readings since then that fit its circuit: none while what it shows may be another meter's register.
    `serial` is the number of an exchange that a person confirmed, which counts instead of `instead_of`, the number in
    the site file of that day. The two are the same where the meter itself has said what the site file says.

    `opened_ms`, `opened_milliwh` and `opened_by` tell of the newest change of epoch: when, the register at which the
    epoch before it ended, and who said so.
    """

    place: str | None = None
    profile_hash: str | None = None
    fingerprint: Fingerprint | None = None
    returned_ms: int | None = None
    proofs: int = 0
    serial: str | None = None
    instead_of: str | None = None
    opened_ms: int | None = None
    opened_milliwh: int | None = None
    opened_by: str | None = None

    def known_serial(self, in_site_file: str | None) -> str | None:
        """The serial number that the meter has to show, as far as a person has said one."""
        if self.serial is not None and self.instead_of == in_site_file:
            return self.serial
        return in_site_file

    def has_said(self, in_site_file: str) -> bool:
        """Whether the meter itself has given the number that the site file has for it."""
        return self.serial == self.instead_of == in_site_file

    def heard(self, serial: str) -> "Memory":
        """It gave the number that the site file has for it."""
        return replace(self, serial=serial, instead_of=serial)

    @property
    def is_in_question(self) -> bool:
        """Whether what it showed last, when it showed anything, may be another meter's register."""
        return self.returned_ms is not None and not self.proofs

    def questioned(self, at_ms: int) -> "Memory":
        """It shows what may be another meter's register; no reading since then has been its own."""
        return self if self.is_in_question else replace(self, returned_ms=at_ms, proofs=0)

    @property
    def is_on_probation(self) -> bool:
        """Whether it came back without a proof, and its rate is not confirmed yet."""
        return self.returned_ms is not None and self.proofs < READS

    def returned(self, at_ms: int) -> "Memory":
        """It came back without a proof of who it is; this reading is the first that fits."""
        return replace(self, returned_ms=at_ms, proofs=1)

    def proved(self) -> "Memory":
        """One more reading fits its circuit."""
        return replace(self, proofs=min(READS, self.proofs + 1))

    def confirmed(self) -> "Memory":
        """A person says, or its serial number proves, that it is the same meter."""
        return replace(self, returned_ms=None, proofs=0)


def changed_setting(before: Fingerprint, now: Fingerprint) -> str | None:
    """The first register of a fingerprint that reads otherwise than before, in words; None where none does.

    One that the meter did not have at one of the two times says nothing: it may have refused for a moment.
    """
    former = dict(before)
    for name, words in now:
        was = former.get(name)
        if words is not None and was is not None and words != was:
            return f"{name} reads {_hex(words)} instead of {_hex(was)}"
    return None


def merged(before: Fingerprint | None, now: Fingerprint) -> Fingerprint:
    """The fingerprint to keep: what is read now, and what was read before where it is not answered now."""
    former = dict(before or ())
    return tuple((name, words if words is not None else former.get(name)) for name, words in now)


def _hex(words: tuple[int, ...]) -> str:
    return " ".join(f"{word:04X}" for word in words)


@dataclass(frozen=True, slots=True)
class Pending:
    """A reading that is not believed yet: the point it would be, and its words."""

    point: Point
    words: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Order:
    """What a person says of a meter; carried out at the next boundary once it is `confirmed`.

    `kind` is `exchange` (another meter hangs there now), `same` (it is the one it always was) or `witness` (the agent
    has opened the epoch by itself, these are the displays). `last_kwh` is what the old meter's display showed,
    `first_kwh` what the new one's shows, or that of the same meter: decimal texts as they were read. `serial` is the
    new meter's number.
    """

    meter: str
    kind: str
    noted_ms: int
    by: str
    last_kwh: str | None = None
    first_kwh: str | None = None
    serial: str | None = None
    confirmed: bool = False
