"""The plan is the cheapest there is, and never breaks a limit of the meter."""

from collections.abc import Iterator
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.metering.plan import Block, BusCost, bisect, plan_reads
from agent.metering.plant import SerialSettings
from agent.metering.profile import Register, WordType
from tests.metering.examples import register

SLOW = BusCost.serial(SerialSettings(9600, "even", 1), 10_000_000)
TYPES = st.sampled_from([WordType.U16, WordType.F32, WordType.U64])
COSTS = st.builds(BusCost, st.integers(1, 50), st.integers(0, 600), st.integers(0, 100))


@st.composite
def maps(draw: st.DrawFn, most: int = 7) -> list[Register]:
    """Registers anywhere near each other, overlaps and twins included."""
    return [
        register(
            draw(TYPES),
            name=f"r{index}",
            address=draw(st.integers(0, 40)),
            function=draw(st.sampled_from([3, 4])),
        )
        for index in range(draw(st.integers(1, most)))
    ]


def partitions(items: list[Register]) -> Iterator[list[list[Register]]]:
    """Every way to sort items into heaps."""
    if not items:
        yield []
        return
    first, rest = items[0], items[1:]
    for heaps in partitions(rest):
        yield [[first], *heaps]
        for index in range(len(heaps)):
            yield [*heaps[:index], [first, *heaps[index]], *heaps[index + 1 :]]


def span(heap: list[Register], alignment: int) -> int:
    start = min(item.address for item in heap) // alignment * alignment
    end = max(item.address + item.words for item in heap)
    return end + -end % alignment - start


def cheapest_of_all(wanted: list[Register], read_limit: int, alignment: int, cost: BusCost) -> int:
    """The least cost over all partitions, by trying them all."""
    return min(
        sum(cost.transaction_ns(span(heap, alignment)) for heap in heaps)
        for heaps in partitions(wanted)
        if all(
            len({item.function for item in heap}) == 1 and span(heap, alignment) <= read_limit
            for heap in heaps
        )
    )


@settings(deadline=None)
@given(maps(), st.integers(8, 30), st.sampled_from([1, 2, 4]), COSTS)
def test_no_partition_of_the_registers_is_cheaper(
    wanted: list[Register], read_limit: int, alignment: int, cost: BusCost
) -> None:
    plan = plan_reads(wanted, read_limit=read_limit, alignment=alignment, cost=cost)
    assert sum(cost.transaction_ns(block.count) for block in plan) == cheapest_of_all(
        wanted, read_limit, alignment, cost
    )


def check_block(block: Block, read_limit: int, alignment: int) -> None:
    assert 0 < block.count <= read_limit
    assert block.address % alignment == block.count % alignment == 0
    for item in block.registers:
        assert item.function == block.function
        assert block.address <= item.address
        assert item.address + item.words <= block.address + block.count


@given(maps(most=30), st.integers(8, 125), st.sampled_from([1, 2, 4]), COSTS)
def test_every_register_is_read_once_and_whole(
    wanted: list[Register], read_limit: int, alignment: int, cost: BusCost
) -> None:
    plan = plan_reads(wanted, read_limit=read_limit, alignment=alignment, cost=cost)
    assert sorted(item.name for block in plan for item in block.registers) == sorted(
        item.name for item in wanted
    )
    assert list(plan) == sorted(plan, key=lambda block: (block.function, block.address))
    for block in plan:
        check_block(block, read_limit, alignment)


@given(maps(most=12), st.sampled_from([1, 2]))
def test_halving_ends_at_single_registers_and_loses_none(wanted: list[Register], alignment: int) -> None:
    blocks = list(plan_reads(wanted, read_limit=125, alignment=alignment, cost=SLOW))
    single: list[Block] = []
    while blocks:
        halves = bisect(blocks.pop(), alignment=alignment)
        if len(halves) == 1:
            single += halves
        else:
            blocks += halves
    for block in single:
        check_block(block, 125, alignment)
        assert len(block.registers) == 1
    assert sorted(block.registers[0].name for block in single) == sorted(item.name for item in wanted)


def pair_with_hole(hole: int) -> list[Register]:
    return [register(name="left", address=0), register(name="right", address=2 + hole)]


def reads(hole: int, cost: BusCost) -> int:
    return len(plan_reads(pair_with_hole(hole), read_limit=125, alignment=1, cost=cost))


def test_a_hole_is_read_over_exactly_where_that_is_cheaper() -> None:
    """At 9600 8E1 and 10 ms a request costs 25.2 characters more than its registers: a hole of 12 is cheaper."""
    assert reads(12, SLOW) == 1
    assert reads(13, SLOW) == 2


def test_at_equal_cost_unknown_registers_are_left_alone() -> None:
    level = BusCost(character_ns=1, turnaround_ns=3, silence_ns=0)
    assert reads(7, level) == 1
    assert reads(8, level) == 2


def test_behind_tcp_only_the_number_of_requests_counts() -> None:
    assert reads(121, BusCost.tcp(round_trip_ns=2_000_000)) == 1
    assert reads(122, BusCost.tcp(round_trip_ns=2_000_000)) == 2


def test_an_energy_register_at_9600_8e1_takes_33_and_a_half_milliseconds() -> None:
    assert SLOW.transaction_ns(2) == pytest.approx(33_490_000, abs=5_000)


@given(
    st.sampled_from([1200, 2400, 9600, 19200, 38400, 115200]),
    st.sampled_from(["none", "even"]),
    st.integers(1, 2),
)
def test_times_are_rounded_up_from_the_exact_ones(baud: int, parity: str, stop_bits: int) -> None:
    line = SerialSettings(baud, parity, stop_bits)
    cost = BusCost.serial(line, 0, quiet_ms=2)
    character = Fraction(line.bits_per_character * 10**9, baud)
    silence = Fraction(7, 2) * character if baud <= 19200 else Fraction(1_750_000)
    assert 0 <= cost.character_ns - character < 1
    assert 0 <= cost.silence_ns - 2_000_000 - silence < 1


def test_what_cannot_be_read_is_said() -> None:
    long = register(WordType.U64, name="long", address=1)
    with pytest.raises(ValueError, match="long does not fit into a read of 5 registers"):
        plan_reads([long], read_limit=5, alignment=2, cost=SLOW)
    with pytest.raises(ValueError, match="beyond address 65535"):
        plan_reads([register(address=65_535)], read_limit=5, alignment=1, cost=SLOW)
    assert plan_reads([], read_limit=5, alignment=1, cost=SLOW) == ()


def test_the_words_of_each_quantity_are_cut_out_of_the_block() -> None:
    wanted = pair_with_hole(1)
    (block,) = plan_reads(wanted, read_limit=125, alignment=1, cost=SLOW)
    words = (10, 11, 99, 12, 13)
    assert [block.words_of(item, words) for item in wanted] == [(10, 11), (12, 13)]
