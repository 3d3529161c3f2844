"""One kilowatt-hour, from the words on the wire to the platform's account. Read this first.

A reflow oven uses 1 kWh in ten minutes. Its meter counts 0.01 kWh in a 32-bit register that goes round at 10 000 kWh,
which happens on the way. Everything in here is the production code, a real journal and real signatures; only the wire
and the network are left out: words go in, messages are handed over.
"""

from fractions import Fraction
from pathlib import Path

from agent.adapters.keys import PublicKeys
from agent.metering.decode import decode
from agent.metering.quantity import format_kwh
from agent.reporting import topics
from agent.reporting.acknowledgement import Acknowledgement
from agent.reporting.envelope import ACKNOWLEDGEMENT, open_sealed
from agent.service.acknowledge import Outcome
from simulators.platform.ingest import Platform
from simulators.platform.queries import totals
from simulators.platform.store import Store
from tests.service.bench import KWH_REGISTER, Bench
from tests.simulators.chains import signer


def test_one_kilowatt_hour(tmp_path: Path) -> None:
    # The wire: two words, high word first, are a count, and a count is an exact amount of energy.
    assert decode(KWH_REGISTER, (0x000F, 0x4233)) == 999_987
    gateway = Bench(tmp_path)
    (reflow, _) = gateway.meters
    assert reflow.per_count_milliwh == Fraction(10_000)  # 0.01 kWh in units of 0.001 Wh

    # Eleven boundary readings. The first only says where the register stands; the others are the kWh, in ten deltas.
    # Each reading, its delta and the signed batch are one transaction in the journal.
    for tenth in range(11):
        gateway.read({"reflow-1": (999_950 + 10 * tenth) % 1_000_000})
    deltas = gateway.deltas("reflow-1")
    assert deltas == [100_000] * 10
    assert format_kwh(sum(deltas)) == "1.000000"

    # The deltas telescope: last register - first register + one modulus, whatever lies between.
    flags = [delta.q for _, batch in gateway.batches() for delta in batch.deltas]
    assert [flag for flag in flags if "roll" in flag] == [("roll",)]
    assert gateway.journal.heads()["reflow-1"].register_milliwh == 50 * 10_000

    # The platform verifies signature, chain and registers, books each delta once, and signs for what it holds.
    key = signer(7)
    store = Store.create(":memory:")
    platform = Platform(
        store,
        audience="carbon.example",
        signer=key,
        keys={("org", "gw01"): [gateway.signer.public_key]},
        clock=gateway.clock,
    )
    messages = [
        (topics.batch("org", "gw01"), kept.jws or b"")
        for kept in gateway.journal.queue(after_ordinal=0, limit=100)
    ]
    platform.receive_many(messages)
    platform.receive_many(messages)  # a broker may deliver twice; the platform books once
    account = totals(store)["org/gw01"]
    assert account.meters["reflow-1"].energy_milliwh == 1_000_000
    assert account.steps[str(reflow.step)] == 1_000_000

    # Only that signature lets the gateway forget. A PUBACK of the broker would not.
    gateway.clock.now_ms += 3_000
    answer = platform.tick(gateway.clock.now_ms)[-1]
    opened = open_sealed(answer.payload, ACKNOWLEDGEMENT, PublicKeys([key.public_key]))
    said = Acknowledgement.from_payload(opened.payload)
    outcome = gateway.acknowledger.take(
        gateway.journal, said, answer.payload, session=None, now_ms=gateway.clock.now_ms
    )
    assert outcome is Outcome.TAKEN
    assert gateway.journal.backlog().batches == 0
