"""The reads of one meter: halved where refused, whole again later, another shape while an answer is owed."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from agent.metering.plan import BusCost
from agent.metering.profile import Register, WordType
from agent.metering.reads import REMEMBER_NS, Reads, reshape
from tests.metering.examples import profile, register

TCP = BusCost.tcp(2_000_000)


def block_of(*addresses: int) -> tuple[Reads, list[Register]]:
    """Registers of two words at these addresses, read in one block over TCP."""
    wanted = [
        register(WordType.U32, name=f"r{address}" if address else "energy_import", address=address)
        for address in addresses
    ]
    known = replace(profile(wanted[0]), registers={each.name: each for each in wanted})
    return Reads(known, wanted, TCP), wanted


def test_what_is_refused_is_halved_down_to_the_one_that_is_missing() -> None:
    reads, _ = block_of(0, 2, 4, 6, 8, 10, 12, 14)
    refusals = 0
    while True:
        bad = [block for block in reads.blocks(0) if any(each.address == 10 for each in block.registers)]
        if not bad:
            break
        reads.refuse(0, bad[0])
        refusals += 1
    assert refusals <= 4, "eight registers are halved three times, and then the last one is left out"
    assert reads.missing == {"r10"}
    read = {each.address for block in reads.blocks(0) for each in block.registers}
    assert read == {0, 2, 4, 6, 8, 12, 14}


def test_refusals_are_forgotten_after_a_while_or_when_another_meter_may_be_there() -> None:
    reads, _ = block_of(0, 2)
    (whole,) = reads.blocks(0)
    reads.refuse(5, whole)
    assert len(reads.blocks(4 + REMEMBER_NS)) == 2
    assert reads.blocks(5 + REMEMBER_NS) == (whole,)
    reads.refuse(0, whole)
    reads.forget()
    assert reads.blocks(1) == (whole,) and not reads.missing


def test_a_block_that_is_not_read_any_more_cannot_be_refused_again() -> None:
    reads, _ = block_of(0, 2)
    (whole,) = reads.blocks(0)
    reads.refuse(0, whole)
    halves = reads.blocks(0)
    reads.refuse(0, whole)
    assert reads.blocks(0) == halves


def test_a_plan_is_outdated_when_the_turnaround_is_another_and_nothing_is_refused() -> None:
    reads, _ = block_of(0, 2)
    assert not reads.is_outdated(2_400_000) and reads.is_outdated(40_000_000)
    reads.refuse(0, reads.blocks(0)[0])
    assert not reads.is_outdated(40_000_000)


@given(st.sets(st.integers(0, 20), min_size=1, max_size=8), st.integers(2, 12), st.sampled_from([1, 2]))
def test_another_shape_is_longer_and_reads_only_what_the_map_has(
    places: set[int], limit: int, alignment: int
) -> None:
    registers = [register(WordType.U32, name=f"r{place}", address=2 * place) for place in sorted(places)]
    known = replace(
        profile(registers[0]),
        registers={each.name: each for each in registers},
        read_limit=limit,
        alignment=alignment,
    )
    block = Reads(known, registers[:1], TCP).blocks(0)[0]
    other = reshape(block, known)
    touching = any(abs(each.address - registers[0].address) == 2 for each in registers)
    assert (other is not None) is (touching and limit >= 4)
    if other is not None:
        covered = {each.address + word for each in registers for word in range(2)}
        assert block.count < other.count <= limit
        assert set(range(other.address, other.address + other.count)) <= covered
        assert other.words_of(registers[0], range(other.count)) == tuple(
            range(registers[0].address - other.address, registers[0].address - other.address + 2)
        )
