"""The ledger of one meter: where its register stands, and what a new reading makes of that.

A reading either advances the register by a delta, or opens an epoch (the register's continuity ended, or began), or is
held back by the gates. The three are values, so that a caller has to deal with each. Comes after `decode` and `gates`;
`agent.service.close` turns the outcomes into deltas and events of a batch, in one transaction.

Deltas are anchored: each carries both registers, and the next one begins where this one ended. So any run of deltas of
an epoch telescopes to last register - first register + rollovers, whatever was lost or repeated on the way.
"""

from dataclasses import dataclass, replace
from fractions import Fraction

from agent.metering.gates import Held, compare
from agent.metering.interval import DAY_MS, Moment


@dataclass(frozen=True, slots=True)
class Basis:
    """What makes two registers of a meter comparable.

    `per_count_milliwh` is the exact energy of one raw count, CT and PT applied; `modulus_milliwh` and `serial` are
    None where unknown.
    """

    per_count_milliwh: Fraction
    modulus_milliwh: int | None
    serial: str | None

    def continues(self, earlier: "Basis") -> bool:
        """Whether registers on this basis run on from registers on the earlier one, on the same gateway.

        A serial number that was learned in between is no break; two different ones are.
        """
        same_scale = (self.per_count_milliwh, self.modulus_milliwh) == (
            earlier.per_count_milliwh,
            earlier.modulus_milliwh,
        )
        return same_scale and (self.serial is None or earlier.serial is None or self.serial == earlier.serial)

    def proves(self, other: "Basis") -> bool:
        """Whether both are surely the same register of the same meter: an unknown serial number proves nothing.

        This is the rule for what another journal, or the platform, says of the meter (wire format, section 6).
        """
        return self.serial is not None and self == other


@dataclass(frozen=True, slots=True)
class Point:
    """One sound reading of a meter's energy register.

    `at_ms` is when it was read, `cut_ms` the boundary (or start, or stop) it was read for, both UTC Unix ms.
    `flags` are quality flags known so far (`comm`, `clock`). `opens` is why an epoch was once opened at this point,
    None elsewhere; it is set by the ledger and kept with the reading. `when` is what is known of its time beside the
    label, None where nothing more is.
    """

    meter: str
    at_ms: int
    cut_ms: int
    register_milliwh: int
    basis: Basis
    flags: frozenset[str] = frozenset()
    opens: str | None = None
    when: Moment | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """The deltas of an epoch since the last balance: what the next `balance` event will sum up.

    `n_first` is the first one's number, `register_milliwh` its `reg_start`, `roll_milliwh` the rollovers so far,
    `day` the UTC day (since 1970) in which it began.
    """

    n_first: int
    register_milliwh: int
    roll_milliwh: int
    day: int


@dataclass(frozen=True, slots=True)
class Head:
    """Where the ledger of a meter stands: the last register that was booked, or that opened its epoch.

    `n` is 0 until the epoch's first delta. `cfg` is the hash of the descriptor the register was read under.
    `restored` says that this position was taken over from the platform and not yet continued: then only a proven
    basis continues the epoch. `run` is None where no delta was booked since the last balance.
    `suspect` says that a reading after this one was refused: the delta that spans it says so. `when` is what is known
    of the time of the register beside its label.
    """

    meter: str
    epoch: int
    n: int
    register_milliwh: int
    at_ms: int
    cut_ms: int
    basis: Basis
    cfg: str
    restored: bool = False
    run: Run | None = None
    suspect: bool = False
    when: Moment | None = None


@dataclass(frozen=True, slots=True)
class Advanced:
    """The register ran on: delta = point - before + roll."""

    before: Head
    head: Head
    delta_milliwh: int
    roll_milliwh: int | None


@dataclass(frozen=True, slots=True)
class Opened:
    """A new epoch begins at the point. `before` is None for the first reading ever made of the meter."""

    before: Head | None
    head: Head
    reason: str


def advance(
    head: Head | None, point: Point, *, cfg: str, rise_max_milliwh: int | None
) -> Advanced | Opened | Held:
    """Say what a reading means, given where the ledger stands.

    Args:
        head: the meter's position, None if it was never read.
        point: the reading.
        cfg: hash of the descriptor in force for this reading.
        rise_max_milliwh: most energy the circuit can have used since `head`; a bound for rollovers, None if unknown.

    Returns:
        Advanced, with n one higher; Opened, where the basis changed or `point.opens` says that an epoch was opened
        here before; Held, where the register fell and nothing explains it.
    """
    if head is None:
        return Opened(None, head_at(point, epoch=1, n=0, cfg=cfg), "first")
    reason = _break(head, point)
    if reason is not None:
        return Opened(head, head_at(point, epoch=head.epoch + 1, n=0, cfg=cfg), reason)
    move = compare(
        head.register_milliwh,
        point.register_milliwh,
        modulus_milliwh=point.basis.modulus_milliwh,
        rise_max_milliwh=rise_max_milliwh,
    )
    if isinstance(move, Held):
        if head.restored:
            return Opened(head, head_at(point, epoch=head.epoch + 1, n=0, cfg=cfg), "restore")
        return move
    after = head_at(point, epoch=head.epoch, n=head.n + 1, cfg=cfg)
    if after.basis.serial is None and head.basis.serial is not None:
        after = replace(after, basis=head.basis)
    after = replace(after, run=_run_on(head, move.roll_milliwh or 0))
    return Advanced(head, after, move.delta_milliwh, move.roll_milliwh)


def _run_on(head: Head, roll_milliwh: int) -> Run:
    """The run with one more delta, which begins at the head."""
    run = head.run or Run(head.n + 1, head.register_milliwh, 0, head.cut_ms // DAY_MS)
    return replace(run, roll_milliwh=run.roll_milliwh + roll_milliwh)


def _break(head: Head, point: Point) -> str | None:
    """Why the point cannot continue the head's epoch, None if it can."""
    if head.restored:
        return None if point.opens is None and point.basis.proves(head.basis) else "restore"
    if point.opens is not None:
        return point.opens
    if point.basis.continues(head.basis):
        return None
    changed_meter = head.basis.serial is not None and point.basis.serial not in (None, head.basis.serial)
    return "exchange" if changed_meter else "ratio"


def head_at(point: Point, *, epoch: int, n: int, cfg: str) -> Head:
    """Where the ledger stands at a reading, as the `n`-th delta of an epoch, or its beginning (0)."""
    return Head(
        point.meter,
        epoch,
        n,
        point.register_milliwh,
        point.at_ms,
        point.cut_ms,
        point.basis,
        cfg,
        when=point.when,
    )
