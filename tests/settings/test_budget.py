"""The estimate of the journal's growth, against the journal's own tables filled with sealed batches."""

import random
from fractions import Fraction
from pathlib import Path

import pytest

from agent.adapters.journal import open_journal
from agent.adapters.keys import generate_key, load_signer
from agent.metering.interval import Moment
from agent.metering.ledger import Basis, Point
from agent.reporting.batch import Batch, Clock, Delta
from agent.reporting.chain import ChainHead
from agent.reporting.envelope import BATCH, seal, signing_input_hash
from agent.service.journal import KeptDescriptor, Reading, SealedBatch
from agent.service.ports import Signer
from agent.settings.budget import DAYS_BROKER, DAYS_PLATFORM, bytes_per_day, days_to_keep, needed_mb
from agent.settings.grammar import DAY_MS

INTERVALS = 200
_PER_COUNT = 10_000
"""0.01 kWh in 0.001 Wh."""


@pytest.mark.parametrize("meters", [1, 2, 8, 22, 26, 40, 64])
def test_the_estimate_is_above_what_is_stored_but_not_wildly(tmp_path: Path, meters: int) -> None:
    generate_key(tmp_path / "key.pem")
    stored = _stored_bytes_per_interval(load_signer(tmp_path / "key.pem"), meters, tmp_path)
    estimated = bytes_per_day(meters, 60_000) * 60_000 // DAY_MS
    assert stored <= estimated <= 2.5 * stored


def test_twenty_six_meters_a_minute_fit_the_default_budget_in_both_modes() -> None:
    assert needed_mb(26, 60_000, "platform") <= 1_024
    assert needed_mb(26, 60_000, "broker") <= 1_024


def test_broker_mode_has_to_keep_longer() -> None:
    assert (days_to_keep("platform"), days_to_keep("broker")) == (DAYS_PLATFORM, DAYS_BROKER) == (7, 30)
    assert needed_mb(26, 60_000, "broker") > 4 * needed_mb(26, 60_000, "platform")


def test_more_than_sixty_four_meters_need_a_second_batch() -> None:
    one, two = bytes_per_day(64, DAY_MS), bytes_per_day(65, DAY_MS)
    assert two - one > 1_400


def _stored_bytes_per_interval(signer: Signer, meters: int, folder: Path) -> int:
    """Bytes by which the database grows with each interval, whole pages counted."""
    chance = random.Random(meters)
    journal = open_journal(folder / "journal.db")
    registers = [chance.randrange(10**7, 10**8) for _ in range(meters)]
    cfg = signing_input_hash(b"a.descriptor.signed")
    with journal.transaction():
        journal.add_descriptor(KeptDescriptor(cfg, 1, b"a.descriptor.signed"))
    before = journal.waiting().used_bytes
    for place in range(INTERVALS):
        at_ms = 1_790_000_000_000 + 60_000 * place
        deltas = tuple(_delta(chance, registers, meter, at_ms) for meter in range(meters))
        sealed = _batch(place + 1, at_ms, deltas)
        jws = seal(BATCH, sealed.to_payload(), signer)
        head = ChainHead(sealed.chain, sealed.seq, signing_input_hash(jws))
        with journal.transaction():
            for number, delta in enumerate(deltas):
                journal.add_reading(_reading(number, delta, at_ms + 60_000, cfg))
            journal.append_batch(SealedBatch(head, sealed.prev, None, at_ms, 10**9, jws))
    grown = journal.waiting().used_bytes - before
    journal.close()
    return grown // INTERVALS


def _reading(number: int, delta: Delta, cut_ms: int, cfg: str) -> Reading:
    """The reading that ends a delta, of a meter with a serial number of its own, of a machine that knows its time."""
    basis = Basis(Fraction(_PER_COUNT), None, f"{2_206_001_000 + number}")
    when = Moment("0f5c3b52-1c7e-4a9e-9a53-1e6ac1b7c001", delta.end_ms - 1_789_000_000_000, 20)
    counts = delta.reg_end // _PER_COUNT
    point = Point(delta.meter, delta.end_ms, cut_ms, delta.reg_end, basis, when=when)
    return Reading(point, (counts >> 16, counts & 0xFFFF), cfg)


def _delta(chance: random.Random, registers: list[int], meter: int, at_ms: int) -> Delta:
    """A delta with long ids and large registers."""
    start, advance = registers[meter] * _PER_COUNT, chance.randrange(70) * _PER_COUNT
    registers[meter] += advance // _PER_COUNT
    return Delta(
        meter=f"high-temperature-burn-in-{meter:02d}",
        step="high_temperature_burn_in",
        epoch=1,
        n=at_ms // 60_000,
        start_ms=at_ms + chance.randrange(900),
        end_ms=at_ms + 60_000 + chance.randrange(900),
        reg_start=start,
        reg_end=start + advance,
        delta=advance,
        roll=None,
        q=(),
    )


def _batch(seq: int, at_ms: int, deltas: tuple[Delta, ...]) -> Batch:
    return Batch(
        org="zj-meterworks",
        agent="gw01",
        aud="carbon.grid.example",
        chain="01J0000000AAAAAAAAAAAAAAAA",
        seq=seq,
        prev="a" * 43,
        prev_chain=None,
        iat_ms=at_ms,
        clock=Clock("S", 3),
        sw="0.1.0",
        cfg="b" * 43,
        deltas=deltas,
        events=(),
    )
