"""The reads of one meter, and what it has refused: planned by cost, halved where it says no, tried whole again later.

A profile says what a model has; a meter of another firmware may lack a register of it, or refuse to read across a hole.
It answers such a read with exception 1, 2 or 3. The block is then halved, and the halves again, until only what is not
there is left out; that is remembered, because every refusal costs a transaction. After a while it is forgotten, because
meters are replaced and given new firmware.

Before it comes `plan`, after it the poll stage, which makes one request of each block.
"""

from collections.abc import Sequence
from dataclasses import replace

from agent.metering.plan import Block, BusCost, bisect, plan_for
from agent.metering.profile import DLT645, Profile, Register

REMEMBER_NS = 600 * 1_000_000_000
"""For how long a refusal is believed."""


class Reads:
    """The blocks that fetch these registers of one meter."""

    def __init__(self, profile: Profile, wanted: Sequence[Register], cost: BusCost) -> None:
        self._profile = profile
        self._wanted = tuple(wanted)
        self._cost = cost
        self._planned_ns = cost.turnaround_ns
        self._blocks = plan_for(profile, self._wanted, cost)
        self._forget_ns: int | None = None
        self.missing: frozenset[str] = frozenset()
        """Registers that the meter says it does not have."""

    def blocks(self, now_ns: int) -> tuple[Block, ...]:
        """What to read. Whole blocks again when refusals are old."""
        if self._forget_ns is not None and now_ns >= self._forget_ns:
            self._plan()
        return self._blocks

    def is_outdated(self, turnaround_ns: int) -> bool:
        """Whether the meter's turnaround turned out to be another; never while refusals are remembered."""
        return self._forget_ns is None and _differs(turnaround_ns, self._planned_ns)

    def learn(self, turnaround_ns: int, cost: BusCost) -> None:
        """Plan anew with what was learned."""
        self._planned_ns = turnaround_ns
        self._cost = cost
        self._plan()

    def forget(self) -> None:
        """Another meter may be there."""
        if self._forget_ns is not None:
            self._plan()

    def refuse(self, now_ns: int, refused: Block) -> None:
        """The meter has not all of a block: from now on it is read in halves, or not at all."""
        if refused not in self._blocks:
            return
        halves: tuple[Block, ...] = ()
        if len(refused.registers) > 1:
            halves = bisect(refused, alignment=self._profile.alignment)
        else:
            self.missing |= {refused.registers[0].name}
        at = self._blocks.index(refused)
        self._blocks = (*self._blocks[:at], *halves, *self._blocks[at + 1 :])
        if self._forget_ns is None:
            self._forget_ns = now_ns + REMEMBER_NS

    def _plan(self) -> None:
        self._blocks = plan_for(self._profile, self._wanted, self._cost)
        self._forget_ns = None
        self.missing = frozenset()


def reshape(block: Block, profile: Profile) -> Block | None:
    """A read of another length that fetches all the block does, over registers that the map has; None if there is none.

    A late answer to the first question cannot be taken for the answer to this one. It grows by the nearest whole
    register before or behind; it never reads what the profile does not name, nor half of a value.
    """
    if profile.protocol == DLT645:
        return None
    grown = [
        _joined(block, register, profile.alignment)
        for register in profile.registers.values()
        if register.function == block.function and register not in block.registers
    ]
    fitting = [new for new in grown if new is not None and block.count < new.count <= profile.read_limit]
    return min(fitting, key=lambda new: new.count, default=None)


def _joined(block: Block, register: Register, alignment: int) -> Block | None:
    """The block with a register that touches it, None where there is a hole between them."""
    start = register.address // alignment * alignment
    end = -(-(register.address + register.words) // alignment) * alignment
    if end < block.address or start > block.address + block.count:
        return None
    first = min(start, block.address)
    count = max(end, block.address + block.count) - first
    return replace(block, address=first, count=count, registers=(*block.registers, register))


def _differs(new_ns: int, old_ns: int) -> bool:
    """By more than a quarter, and by more than a millisecond."""
    return abs(new_ns - old_ns) > max(old_ns // 4, 1_000_000)
