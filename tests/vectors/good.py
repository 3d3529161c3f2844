"""The good vectors: one gateway's life with everything that may happen in it, and what a reader must find in it.

A rollover, a gap, an exchange (both serial numbers), a lost journal and the chain after it, a meter without a serial
number that therefore begins a new epoch, a rotated key, daily balances, and the platform's acknowledgements.
"""

from dataclasses import dataclass
from typing import Any

from tests.vectors.builder import (
    ACKNOWLEDGEMENT,
    CHAIN_A,
    CHAIN_B,
    ENROLMENT,
    MINUTE_MS,
    MODULUS,
    NEXT,
    PLATFORM,
    START_MS,
    STATUS,
    TPM,
    Json,
    Line,
    Register,
    jws,
    meter,
    utc,
)

_SHARED = [{"step": "smt_placement", "num": 3, "den": 5}, {"step": "reflow_soldering", "num": 2, "den": 5}]
_BEFORE_ROLLOVER = MODULUS - 4_000


@dataclass(frozen=True)
class Good:
    """An export in the order in which it was made, what it adds up to, and the messages that are not in an export."""

    lines: list[tuple[str, str]]
    expected: Json
    others: dict[str, str]


def _meters(reflow_serial: str) -> list[Json]:
    return [
        meter("incomer-1", serial=None, role="incomer", steps=[], rated_w=400_000),
        meter("smt-1", parent="incomer-1", steps=_SHARED, production_line="smt-2"),
        meter(
            "reflow-1",
            parent="incomer-1",
            serial=reflow_serial,
            ct_class="0.5",
            steps=[{"step": "reflow_soldering", "num": 1, "den": 1}],
        ),
    ]


class _Life:
    """The story, line by line."""

    def __init__(self) -> None:
        line = Line(_meters("2206001234"))
        line.registers = {
            "incomer-1": Register(700_000_000, START_MS),
            "smt-1": Register(_BEFORE_ROLLOVER, START_MS),
            "reflow-1": Register(123_450_000, START_MS),
        }
        self.line = line
        self.export: list[tuple[str, str]] = []
        self.totals = dict.fromkeys(line.registers, 0)

    def note(self, what: str, message: str) -> None:
        self.export.append((what, message))

    def deltas(self, gap: tuple[str, ...] = (), **rises: int) -> list[Json]:
        """A minute passes; meters by their names with _ for -, those in `gap` had missed readings."""
        self.line.now_ms += MINUTE_MS
        made = []
        for name, rise in ((key.replace("_", "-"), rise) for key, rise in rises.items()):
            self.totals[name] += rise
            delta = self.line.delta(name, rise)
            flags = {
                "gap": name in gap,
                "roll": "roll" in delta,
                "first": delta["n"] == 1 and delta["epoch"] > 1,
            }
            made.append({**delta, "q": sorted(flag for flag, applies in flags.items() if applies)})
        return made

    def batch(self, what: str, deltas: list[Json], *events: Json) -> None:
        self.note(f"batch {self.line.chain[-1]}{self.line.seq + 1}: {what}", self.line.say(deltas, events))

    def acknowledge(self, number: int, what: str, **changes: Any) -> None:
        payload = self.line.acknowledgement(number, **changes)
        self.note(f"acknowledgement: {what}", jws(payload, PLATFORM, ACKNOWLEDGEMENT))

    def first_chain(self) -> None:
        line = self.line
        self.note("descriptor, revision 1", line.descriptor)
        first, second = line.carried(parts=2)
        self.batch("the first part of the descriptor", [], first)
        self.batch(
            "the second part, and the first energy under it",
            self.deltas(incomer_1=12_000, smt_1=3_000, reflow_1=5_000),
            second,
        )
        self.batch("smt-1 rolls over", self.deltas(incomer_1=12_000, smt_1=3_000, reflow_1=5_000))
        last_reading = utc(line.now_ms)
        self.batch("reflow-1 did not answer; smt-1 stood still", self.deltas(incomer_1=12_000, smt_1=0))
        spanning = self.deltas(incomer_1=12_000, smt_1=3_000, reflow_1=10_000, gap=("reflow-1",))
        missed = line.event(
            "gap", meter="reflow-1", **{"from": last_reading, "to": utc(line.now_ms)}, reason="no answer"
        )
        self.batch("reflow-1 is back: its delta spans two minutes", spanning, missed)
        self.acknowledge(1, "everything up to batch A5")

    def exchange(self) -> None:
        line = self.line
        line.now_ms += MINUTE_MS
        exchanged = line.epoch(
            "reflow-1", 70_000, serial_from="2206001234", serial_to="2310005678", bound=9_000
        )
        self.note("descriptor, revision 2", line.describe(_meters("2310005678")))
        self.batch(
            "reflow-1 exchanged",
            self.deltas(incomer_1=12_000, smt_1=3_000, reflow_1=4_000),
            exchanged,
            *line.carried(),
        )
        self.batch("an ordinary minute", self.deltas(incomer_1=12_000, smt_1=3_000, reflow_1=5_000))
        balances = [
            line.balance("incomer-1", 1, 700_000_000, self.totals["incomer-1"]),
            line.balance("smt-1", 1, _BEFORE_ROLLOVER, 15_000, roll=MODULUS),
            line.balance("reflow-1", 1, 70_000, 9_000),
        ]
        self.batch("the daily balance", [], *balances)

    def restore(self) -> None:
        line = self.line
        line.now_ms += 5 * MINUTE_MS
        heads = line.heads()
        self.acknowledge(
            2, "heads, because the agent lost its journal", session="0f3a9c5e7b1d2846", heads=heads, rev=2
        )
        line.open_chain(CHAIN_B, line.head)
        restart = line.event("restart", reason="the journal was damaged")
        # No serial number is known, and null never equals: what the register did in between is not proved.
        reopened = line.epoch(
            "incomer-1",
            700_200_000,
            serial_from=None,
            serial_to=None,
            reason="restore",
            bound=None,
        )
        carried = line.carried()
        self.batch(
            "a restored journal goes on from the platform's heads",
            self.deltas(incomer_1=12_000, smt_1=18_000, reflow_1=30_000, gap=("smt-1", "reflow-1")),
            restart,
            *carried,
            reopened,
        )
        self.batch("an ordinary minute", self.deltas(incomer_1=12_000, smt_1=3_000, reflow_1=5_000))

    def rotation(self) -> None:
        line = self.line
        line.now_ms += MINUTE_MS
        self.batch("the key ends with this batch", [], line.rotation(NEXT))
        line.key = NEXT
        self.batch("signed by the next key", self.deltas(incomer_1=12_000, smt_1=3_000, reflow_1=5_000))
        clock = line.event(
            "clock",
            boot="b7a1",
            seq_from=1,
            seq_to=2,
            offset_ms=-1_250,
            err_ms=20,
            state_from="U",
            state_to="S",
        )
        self.batch("a correction of times", self.deltas(incomer_1=12_000, smt_1=3_000, reflow_1=5_000), clock)
        self.acknowledge(3, "everything")


def make() -> Good:
    """The export, its totals and the single messages."""
    life = _Life()
    life.first_chain()
    life.exchange()
    asks = jws(life.line.status(need_heads=True), life.line.key, STATUS)
    life.restore()
    life.rotation()
    line, totals = life.line, life.totals
    others = {
        "status.jws": jws(line.status(), line.key, STATUS),
        "status-asks-for-heads.jws": asks,
        "enrolment.jws": jws(line.enrolment(line.key), line.key, ENROLMENT),
        "es256.jws": "\n".join(_es256()),
    }
    return Good(life.export, _expected(line, totals, len(life.export)), others)


def _expected(line: Line, totals: dict[str, int], lines: int) -> Json:
    smt, reflow = totals["smt-1"], totals["reflow-1"]
    return {
        "about": "What any reader must find in chain.jws. Energy in 0.001 Wh; energy by step as an exact fraction.",
        "lines": lines,
        "verdicts": {"signature": True, "chain": True, "conservation": True},
        "batches": 13,
        "descriptors": 2,
        "acknowledgements": 3,
        "deltas": 29,
        "chains": [
            {"chain": CHAIN_A, "seq_first": 1, "seq_last": 8},
            {"chain": CHAIN_B, "seq_first": 1, "seq_last": 5},
        ],
        "head": line.head,
        "by_meter": dict(sorted(totals.items())),
        "by_step": {
            "reflow_soldering": f"{2 * smt + 5 * reflow}/5",
            "smt_placement": f"{3 * smt}/5",
        },
        "unassigned": f"{totals['incomer-1'] - smt - reflow}/1",
        "holes": {"count": 2, "bound": 9_000, "unbounded": 1},
        "flags": {"first": 2, "gap": 3, "roll": 1},
        "events": {
            "balance": 3,
            "clock": 1,
            "descriptor": 4,
            "epoch": 2,
            "gap": 1,
            "key-rotate": 1,
            "restart": 1,
        },
        "heads": line.heads(),
    }


def _es256() -> list[str]:
    """A gateway whose key is held in a TPM."""
    line = Line([meter("m1")], key=TPM)
    line.say(line.minute(m1=1_000), line.carried())
    line.say(line.minute(m1=2_000))
    return line.log
