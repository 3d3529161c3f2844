"""What the gates have to remember of a meter across a restart, and what a person says of it.

A register tells nothing of the meter behind it. Whether that is still the same one is told by its serial number where
it can be read, and otherwise only by what was so before: where it hangs, how its settings stood, how long nobody saw
it. So these are kept beside the ledger's position, in the journal: a restart must not make the gates forget.

Used by `agent.service.deciding` and `judging`; `agent.service.gatekeeping` keeps it.
"""

from dataclasses import dataclass, replace

from agent.metering.doubt import READS
from agent.metering.ledger import Point

SILENT_MS = 3_600_000
"""After so long without a reading nobody knows whether the same meter answers (design, section 7)."""

Fingerprint = tuple[tuple[str, tuple[int, ...] | None], ...]
"""Words of the registers that change what the energy register means; None for one that the meter does not have."""


@dataclass(frozen=True, slots=True)
class Said:
    """The meter itself has given the number that the site file has for it."""

    serial: str


@dataclass(frozen=True, slots=True)
class Exchanged:
    """A person has confirmed that another meter hangs there: its number, and the one of the site file of that day.

    The number counts instead of that one, and no longer once the site file says another.
    """

    serial: str
    instead_of: str | None


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered of one meter.

    `place` is the line and address at which it was read last, `profile_hash` the profile under which `fingerprint` was
    read; None where nothing was kept yet, which is evidence of nothing.

    `returned_ms` is when it came back without a proof of who it is, None where there is nothing to confirm; `proofs`
    counts the readings since then that fit its circuit: none while what it shows may be another meter's register.
    `number` is what is known of its serial number beyond the site file, None where that is nothing.

    `opened_ms`, `opened_milliwh` and `opened_by` tell of the newest change of epoch: when, the register at which the
    epoch before it ended, and who said so.
    """

    place: str | None = None
    profile_hash: str | None = None
    fingerprint: Fingerprint | None = None
    returned_ms: int | None = None
    proofs: int = 0
    number: Said | Exchanged | None = None
    opened_ms: int | None = None
    opened_milliwh: int | None = None
    opened_by: str | None = None

    def read_at(self, place: str, profile_hash: str, now: Fingerprint, *, goes_on: bool) -> "Memory":
        """A reading that counts was made there, under that profile; what is not answered now is set as it was.

        That is not so where the epoch does not go on (`goes_on`), or under another profile.
        """
        before = self.fingerprint if goes_on and self.profile_hash == profile_hash else None
        former = dict(before or ())
        kept = tuple((name, words if words is not None else former.get(name)) for name, words in now)
        return replace(self, place=place, profile_hash=profile_hash, fingerprint=kept)

    def changed_setting(self, profile_hash: str, now: Fingerprint) -> str | None:
        """The first register that reads otherwise than before, in words; None where none does, or nobody knows.

        Under another profile nobody does. One that the meter did not have at one of the two times says nothing: it may
        have refused for a moment.
        """
        if self.profile_hash != profile_hash:
            return None
        former = dict(self.fingerprint or ())
        for name, words in now:
            was = former.get(name)
            if words is not None and was is not None and words != was:
                return f"{name} reads {_hex(words)} instead of {_hex(was)}"
        return None

    def opened(self, at_ms: int, ended_milliwh: int, by: str) -> "Memory":
        """An epoch was opened, and the one before it ended at that register."""
        return replace(self, opened_ms=at_ms, opened_milliwh=ended_milliwh, opened_by=by)

    def known_serial(self, in_site_file: str | None) -> str | None:
        """The serial number that the meter has to show, as far as a person has said one."""
        match self.number:
            case Exchanged(serial, instead_of) if instead_of == in_site_file:
                return serial
            case _:
                return in_site_file

    def has_said(self, in_site_file: str) -> bool:
        """Whether the meter itself has given the number that the site file has for it."""
        return self.number == Said(in_site_file)

    def heard(self, serial: str) -> "Memory":
        """It gave the number that the site file has for it."""
        return replace(self, number=Said(serial))

    def exchanged(self, serial: str | None, in_site_file: str | None) -> "Memory":
        """A person has confirmed that another meter hangs there; `serial` is None where nobody knows its number.

        Where the site file has its number already, that one counts anyway. The meter has not said it for that: where it
        never does, its silence is no sign of another one.
        """
        if serial is None or serial == in_site_file:
            return replace(self, number=None)
        return replace(self, number=Exchanged(serial, in_site_file))

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
