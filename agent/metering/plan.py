"""Which reads fetch a set of registers in the least time on the bus.

Before this come the profile's registers and what a request costs on the line; after it the line, which sends one
request per block. Whether two registers share a request is decided by cost alone: one request more costs 13 characters,
the meter's turnaround and a silence; one register more costs two characters. On a slow line with a quick meter a hole
of a few registers is dearer than a second request, behind a TCP connection hardly any hole is. A fixed "largest hole"
is wrong on one of the two.

Times are integers of nanoseconds, rounded up.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agent.metering.plant import SerialSettings
from agent.metering.profile import DLT645, DLT645_READ, Profile, Register

REQUEST_CHARACTERS = 8
"""Unit, function, address, count and checksum of a read request (Modbus over Serial Line V1.02, section 2.3)."""
REPLY_CHARACTERS = 5
"""Unit, function, byte count and checksum of a read reply; the registers come on top, two characters each."""

DLT645_CHARACTERS = 20
"""A DL/T 645 read request, and its answer without the data: wake-up bytes, address, control, length, identifier, sum
and end (meter notes, section 7)."""
DLT645_TURNAROUND_NS = 20_000_000
"""A DL/T 645 meter answers no sooner."""

_SECOND_NS = 1_000_000_000
_SILENCE_FAST_NS = 1_750_000
_SILENCE_FAST_ABOVE_BAUD = 19_200
_TCP_CHARACTER_NS = 80
_ADDRESSES = 65_536


@dataclass(frozen=True, slots=True)
class BusCost:
    """What the parts of a transaction cost: a character, the meter's turnaround, and the silence after the answer."""

    character_ns: int
    turnaround_ns: int
    silence_ns: int

    @classmethod
    def serial(cls, settings: SerialSettings, turnaround_ns: int, quiet_ms: int = 0) -> "BusCost":
        """An RS485 line: the silence is 3.5 characters, 1.75 ms above 19200 baud, and the meter's own rest on top.

        Source: Modbus over Serial Line V1.02, section 2.5.1.1.
        """
        bits = settings.bits_per_character
        if settings.baud > _SILENCE_FAST_ABOVE_BAUD:
            silence_ns = _SILENCE_FAST_NS
        else:
            silence_ns = _divide_up(7 * bits * _SECOND_NS, 2 * settings.baud)
        character_ns = _divide_up(bits * _SECOND_NS, settings.baud)
        return cls(character_ns, turnaround_ns, silence_ns + quiet_ms * 1_000_000)

    @classmethod
    def tcp(cls, round_trip_ns: int) -> "BusCost":
        """A meter that speaks Modbus TCP itself, at 100 Mbit/s: a request costs a round trip, a register nothing.

        A gateway with meters on RS485 behind it costs what its line costs: use `serial` with the line's settings.
        """
        return cls(_TCP_CHARACTER_NS, round_trip_ns, 0)

    def block_ns(self, block: "Block") -> int:
        """The least time of one read, in the language of its meter."""
        if block.function != DLT645_READ:
            return self.transaction_ns(block.count)
        characters = 2 * DLT645_CHARACTERS + sum(register.size for register in block.registers)
        return (
            characters * self.character_ns + max(self.turnaround_ns, DLT645_TURNAROUND_NS) + self.silence_ns
        )

    def transaction_ns(self, registers: int) -> int:
        """The least time in which `registers` registers can be read: t(n) = (8 + 5 + 2n) c + T + t3.5."""
        characters = REQUEST_CHARACTERS + REPLY_CHARACTERS + 2 * registers
        return characters * self.character_ns + self.turnaround_ns + self.silence_ns


@dataclass(frozen=True, slots=True)
class Block:
    """One read request: `count` registers of the meter from `address`, and the quantities that lie whole inside."""

    function: int
    address: int
    count: int
    registers: tuple[Register, ...]

    def words_of(self, register: Register, words: Sequence[int]) -> tuple[int, ...]:
        """The words of one quantity out of the words of the whole block."""
        start = register.address - self.address
        return tuple(words[start : start + register.words])


def plan_for(profile: Profile, wanted: Sequence[Register], cost: BusCost) -> tuple[Block, ...]:
    """The cheapest reads for a meter of this profile: blocks of registers, or one read for each identifier."""
    if profile.protocol == DLT645:
        return tuple(Block(register.function, 0, register.words, (register,)) for register in wanted)
    return plan_reads(wanted, read_limit=profile.read_limit, alignment=profile.alignment, cost=cost)


def plan_reads(
    wanted: Sequence[Register], *, read_limit: int, alignment: int, cost: BusCost
) -> tuple[Block, ...]:
    """The cheapest reads that fetch every wanted register, ordered by function and address.

    No block splits a value, mixes functions, reads more than `read_limit` registers, or starts or ends off a multiple
    of `alignment`. Among plans of equal cost the one that reads fewer registers is taken: registers nobody asked for
    may not exist.

    Cheapest of all partitions, not only of those into neighbours: once registers are sorted by their aligned ends, two
    blocks that interleave can exchange registers so that neither grows, hence some cheapest plan is made of runs, and
    the cheapest runs are found by dynamic programming.

    Raises:
        ValueError: a register does not fit into `read_limit` at this alignment, or beyond address 65535.
    """
    blocks: list[Block] = []
    for function in sorted({register.function for register in wanted}):
        run = [register for register in wanted if register.function == function]
        blocks += _cheapest_runs(_by_end(run, alignment), read_limit, alignment, cost)
    return tuple(sorted(blocks, key=lambda block: (block.function, block.address)))


def bisect(block: Block, *, alignment: int) -> tuple[Block, ...]:
    """Halve a block that the meter answered with exception 2 or 3; one register stays as it is.

    The cut is the one that leaves the longer half shortest, and of those the one that drops most registers nobody
    asked for. Halving on goes down to single quantities, so that one register a meter does not have costs the others
    nothing.
    """
    run = _by_end(block.registers, alignment)
    halves = [(_block(run[:cut], alignment), _block(run[cut:], alignment)) for cut in range(1, len(run))]
    if not halves:
        return (block,)
    return min(halves, key=lambda pair: (max(pair[0].count, pair[1].count), pair[0].count + pair[1].count))


def _cheapest_runs(run: list[Register], read_limit: int, alignment: int, cost: BusCost) -> list[Block]:
    """The cheapest cut of a run into blocks; `best[n]` is (time, registers read, last block) of its first n."""
    best: list[tuple[int, int, Block | None]] = [(0, 0, None)]
    lengths = [0]
    for end in range(1, len(run) + 1):
        choices = []
        for start in reversed(range(end)):
            block = _block(run[start:end], alignment)
            if block.count > read_limit:
                break
            time_ns = best[start][0] + cost.transaction_ns(block.count)
            choices.append((time_ns, best[start][1] + block.count, start, block))
        if not choices:
            register = run[end - 1]
            raise ValueError(f"{register.name} does not fit into a read of {read_limit} registers")
        time_ns, registers, start, block = min(choices, key=lambda choice: choice[:2])
        best.append((time_ns, registers, block))
        lengths.append(end - start)
    blocks = []
    end = len(run)
    while end:
        last = best[end][2]
        assert last is not None
        blocks.append(last)
        end -= lengths[end]
    return blocks


def _by_end(registers: Iterable[Register], alignment: int) -> list[Register]:
    return sorted(registers, key=lambda register: (_end(register, alignment), register.address))


def _block(registers: Sequence[Register], alignment: int) -> Block:
    """The smallest aligned read that holds all these registers of one function."""
    start = min(register.address // alignment * alignment for register in registers)
    end = max(_end(register, alignment) for register in registers)
    if end > _ADDRESSES:
        raise ValueError(f"{registers[-1].name} lies beyond address {_ADDRESSES - 1}")
    return Block(registers[0].function, start, end - start, tuple(registers))


def _end(register: Register, alignment: int) -> int:
    """The first address behind a register, aligned."""
    return _divide_up(register.address + register.words, alignment) * alignment


def _divide_up(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)
