"""What a verification found: four verdicts that are never folded into one, and the totals.

A forged line, a missing batch, a register that does not add up and a suspect reading are four different things, with
four different people to call (wire format, section 5). Before this comes `verify`, after it the command and the page
that show it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from agent.reporting.adjustment import Corrections
from agent.reporting.chain import ChainHead
from agent.reporting.toldtimes import Relabelled

FINDINGS_MAX = 100
"""Findings kept per verdict; the others are counted, so that a file of any size is judged in constant memory."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be. `line` is 1-based, 0 where no line of the file can be named.

    `span` says from when to when and how much energy, for a remark on a stretch of deltas; else it is empty.
    """

    line: int
    place: str
    text: str
    span: str = ""

    def __str__(self) -> str:
        where = f"line {self.line}, {self.place}" if self.line else self.place
        return f"{where}: {self.text}; {self.span}" if self.span else f"{where}: {self.text}"


def stretch(first: int, last: int) -> str:
    """A run of numbers in words: "3" or "3 to 7"."""
    return str(first) if first == last else f"{first} to {last}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether one promise holds. `findings` are the first ones, `count` is how many there were."""

    ok: bool
    findings: tuple[Finding, ...]
    count: int


class Findings:
    """Collects findings, keeps the first and counts the rest."""

    def __init__(self, keep: int = FINDINGS_MAX) -> None:
        self._keep = keep
        self._kept: list[Finding] = []
        self._count = 0

    def add(self, line: int, place: str, text: str, span: str = "") -> None:
        """Take one finding."""
        self._count += 1
        if len(self._kept) < self._keep:
            self._kept.append(Finding(line, place, text, span))

    def copy(self) -> "Findings":
        """The same findings, to be completed without touching these."""
        other = Findings(self._keep)
        other._kept, other._count = list(self._kept), self._count
        return other

    def verdict(self) -> Verdict:
        """Ok if there was no finding."""
        return Verdict(self._count == 0, tuple(self._kept), self._count)


@dataclass(frozen=True, slots=True)
class ChainSpan:
    """The stretch of one chain that the file holds."""

    chain: str
    seq_first: int
    seq_last: int
    hash: str


@dataclass(frozen=True, slots=True)
class Holes:
    """Epoch changes: stretches that no register covers, declared and never guessed into energy.

    `bound_milliwh` is the sum of the bounds that are known, `unbounded` counts the holes without one.
    """

    count: int
    bound_milliwh: int
    unbounded: int


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a verification. All energy in 0.001 Wh, all times in UTC Unix ms.

    `by_step` and `unassigned` are exact shares of the meters' own loads, children subtracted; `by_meter` is what each
    meter registered. `flags` counts the quality flags, `events` the event types. `acknowledged` is the furthest batch
    for which a verified acknowledgement was read. `corrections` show adjusted and estimated energy apart from all that;
    None where the file has adjustments and could be read only once. `period_ms` is as told; `relabelled` are stretches
    whose told times `clock` events corrected, `right_period_ms` is the period with them, None where there are none.
    """

    signature: Verdict
    chain: Verdict
    conservation: Verdict
    quality: Verdict
    org: str | None
    agent: str | None
    aud: str | None
    batches: int
    duplicates: int
    deltas: int
    descriptors: int
    acknowledgements: int
    acknowledgements_unchecked: int
    balances_unchecked: int
    acknowledged: ChainHead | None
    chains: tuple[ChainSpan, ...]
    period_ms: tuple[int, int] | None
    by_meter: Mapping[str, int]
    by_step: Mapping[str, Fraction]
    unassigned: Fraction
    holes: Holes
    flags: Mapping[str, int] = field(default_factory=dict)
    events: Mapping[str, int] = field(default_factory=dict)
    corrections: Corrections | None = None
    relabelled: tuple[Relabelled, ...] = ()
    right_period_ms: tuple[int, int] | None = None

    @property
    def ok(self) -> bool:
        """Whether signature, chain and conservation hold; quality is reported and decides nothing."""
        return self.signature.ok and self.chain.ok and self.conservation.ok

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """The four by name, in the order of the wire format."""
        return {
            "signature": self.signature,
            "chain": self.chain,
            "conservation": self.conservation,
            "quality": self.quality,
        }

    @property
    def gaps(self) -> int:
        """Deltas that span missed boundary readings."""
        return self.flags.get("gap", 0)

    @property
    def suspects(self) -> int:
        """Deltas with a refused reading inside."""
        return self.flags.get("suspect", 0)
