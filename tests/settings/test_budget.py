"""The estimate of the journal's growth, against the journal's own tables filled with sealed batches."""

import random
import sqlite3
import zlib
from pathlib import Path

import pytest

from agent.adapters.keys import generate_key, load_signer
from agent.reporting.batch import Batch, Clock, Delta
from agent.reporting.envelope import BATCH, seal
from agent.service.ports import Signer
from agent.settings.budget import DAYS_BROKER, DAYS_PLATFORM, bytes_per_day, days_to_keep, needed_mb
from agent.settings.grammar import DAY_MS

SCHEMA = Path(__file__).parents[2] / "agent" / "adapters" / "journal" / "schema" / "0001.sql"
INTERVALS = 200


@pytest.mark.parametrize("meters", [1, 2, 8, 22, 26, 40, 64])
def test_the_estimate_is_above_what_is_stored_but_not_wildly(tmp_path: Path, meters: int) -> None:
    generate_key(tmp_path / "key.pem")
    stored = _stored_bytes_per_interval(load_signer(tmp_path / "key.pem"), meters)
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
    assert two - one > 1_700


def _stored_bytes_per_interval(signer: Signer, meters: int) -> int:
    """Bytes by which the database grows with each interval, whole pages counted."""
    chance = random.Random(meters)
    database = sqlite3.connect(":memory:")
    database.executescript(SCHEMA.read_text())
    registers = [chance.randrange(10**11, 10**12) for _ in range(meters)]
    before = _pages(database)
    for place in range(INTERVALS):
        at_ms = 1_790_000_000_000 + 60_000 * place
        deltas = tuple(_delta(chance, registers, meter, at_ms) for meter in range(meters))
        _store(
            database,
            chance,
            seal(BATCH, _batch(place + 1, at_ms, deltas).to_payload(), signer),
            deltas,
            place,
        )
    database.commit()
    return (_pages(database) - before) * 4_096 // INTERVALS


def _delta(chance: random.Random, registers: list[int], meter: int, at_ms: int) -> Delta:
    """A delta with long ids and large registers."""
    start, advance = registers[meter], chance.randrange(700_000)
    registers[meter] += advance
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


def _store(
    database: sqlite3.Connection, chance: random.Random, jws: bytes, deltas: tuple[Delta, ...], place: int
) -> None:
    hash_ = chance.randbytes(22).hex()[:43]
    database.execute(
        "INSERT INTO batches (chain, seq, hash, prev, sealed_ms, energy_milliwh, jws, last_reading)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            "c" * 26,
            place + 1,
            hash_,
            "p" * 43,
            1_790_000_000_000,
            10**9,
            zlib.compress(jws, 6),
            (place + 1) * len(deltas),
        ),
    )
    database.executemany(
        "INSERT INTO readings (meter, at_ms, cut_ms, register_milliwh, words, basis, descriptor, flags)"
        " VALUES (?, ?, ?, ?, ?, 1, 1, '')",
        [
            (number, delta.end_ms, delta.end_ms, delta.reg_end, chance.randbytes(4))
            for number, delta in enumerate(deltas, start=1)
        ],
    )


def _pages(database: sqlite3.Connection) -> int:
    (count,) = database.execute("PRAGMA page_count").fetchone()
    return int(count)
