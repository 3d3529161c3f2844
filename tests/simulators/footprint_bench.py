"""Questions for the footprint over the platform's store: meters of one step each, a grid factor, a day."""

import random
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from agent.carbon.template import canonical
from agent.reporting.descriptor import MeterDescription
from agent.reporting.utc import text_of_ms
from agent.settings.locked import lock, open_factors, open_locked, open_template
from simulators.platform.evaluation import Answer, evaluate
from simulators.platform.maps import Correction
from simulators.platform.quarters import QUARTER_MS, Quarters
from simulators.platform.question import Question
from tests.simulators.bench import Bench
from tests.simulators.chains import MINUTE_MS, ORG, START_MS, Gateway, described

FACTOR_SET, FACTORS = open_factors()
GRID = Fraction("0.5777")
FROM_MS = START_MS // QUARTER_MS * QUARTER_MS
KWH = 1_000_000


def step_meter(meter: str, step: str, **changes: Any) -> MeterDescription:
    return described(meter, steps=((step, 1, 1),), modulus=None, **changes)


def incomer(meter: str = "in", **changes: Any) -> MeterDescription:
    return described(meter, role="incomer", steps=(), modulus=None, **changes)


def question(hours: int = 24, **changes: Any) -> Question:
    made: dict[str, Any] = {
        "org": ORG,
        "from_ms": FROM_MS,
        "to_ms": FROM_MS + hours * 4 * QUARTER_MS,
        "template": open_template(),
        "factors": FACTORS,
        "factor_set": FACTOR_SET,
    }
    return Question(**{**made, **changes})


def asked(bench: Bench, quarters: Quarters | None = None, **changes: Any) -> Answer:
    return evaluate(bench.store, quarters or Quarters(), question(**changes))


def kwh_of(answer: Answer) -> dict[str, str]:
    rows: Any = answer.document["rows"]
    return {row["id"]: row["quantity"] for row in rows if row["quantity"] is not None}


def hourly(path: Path, values: Sequence[str]) -> Path:
    """Quarter-hourly factors from the beginning of the period."""
    lines = [f"{text_of_ms(FROM_MS + place * QUARTER_MS)},{value}" for place, value in enumerate(values)]
    path.write_text("\n".join(["start,kgco2e_per_kwh", *lines]))
    return path


def quarterly(*meters: MeterDescription, quarters: int = 4) -> tuple[Bench, Gateway]:
    """A gateway that seals 1 kWh of every meter in each quarter of an hour."""
    gateway = Gateway(meters=meters)
    for counter in gateway.counters.values():
        counter.end_ms = FROM_MS
    gateway.now_ms = FROM_MS
    bench = Bench((gateway,))
    for _ in range(quarters):
        gateway.now_ms += QUARTER_MS
        bench.send(gateway.say([gateway.delta(meter.meter, KWH) for meter in meters]))
    return bench, gateway


def corrected(folder: Path, name: str = "map.2.json", **changes: Any) -> Correction:
    document = {
        "kind": "step-map",
        "id": "gw01",
        "version": "2",
        "agent": f"{ORG}/gw01",
        "valid_from": text_of_ms(FROM_MS + QUARTER_MS),
        "valid_to": None,
        "meters": [{"meter": "a", "role": "step", "parent": None, "steps": {"packaging": "1"}}],
        **changes,
    }
    (folder / name).write_bytes(canonical(document))
    lock(folder / name)
    return Correction.of(open_locked(folder / name))


def random_store(seed: int) -> tuple[Bench, Gateway, list[Any]]:
    """Batches of a day with uneven intervals, some of them not sent yet."""
    chance = random.Random(seed)
    gateway = Gateway(
        meters=(
            incomer(),
            step_meter("a", "fct_test", parent="in"),
            step_meter("b", "packaging", parent="in"),
        )
    )
    sealed = []
    for _ in range(40):
        gateway.now_ms += chance.randrange(1, 60) * MINUTE_MS
        names = [name for name in ("in", "a", "b") if chance.random() < 0.9]
        sealed.append(gateway.say([gateway.delta(name, chance.randrange(KWH)) for name in names]))
    return Bench((gateway,)), gateway, sealed
