"""The two judges side by side: our `verify` in Python, and the one inside verify.html in node.

Both are asked the same; `said_by_python` puts the answer of the first into the form of the second.
"""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.adapters.keys import PublicKey, PublicKeys, public_key_of_jwk
from agent.reporting.adjustment import Corrected, Corrections, announced
from agent.reporting.verdict import Report
from agent.reporting.verify import Verifier
from tests.evidence import page
from tests.support import programs

_HARNESS = Path(__file__).with_name("judge.mjs")


@dataclass(frozen=True)
class Case:
    """A file and the keys that are given for it."""

    lines: Sequence[bytes]
    keys: Sequence[PublicKey]
    ack_keys: Sequence[PublicKey] = ()
    excerpt: bool = False
    revoked: Mapping[str, tuple[str, int]] = field(default_factory=dict)


def report_of(case: Case) -> Report:
    """What our verify says."""
    verifier = Verifier(
        PublicKeys(case.keys),
        PublicKeys(case.ack_keys) if case.ack_keys else None,
        admit=lambda jwk: PublicKeys([public_key_of_jwk(jwk)]),
        excerpt=case.excerpt,
        revoked=case.revoked,
        runs=announced(case.lines),
    )
    for number, line in enumerate(case.lines, 1):
        verifier.feed(number, line)
    return verifier.report()


def said_by_python(case: Case) -> dict[str, Any]:
    """Our verify's report in the form of the harness."""
    report = report_of(case)
    return {
        "ok": report.ok,
        "verdicts": {name: verdict.count for name, verdict in report.verdicts.items()},
        "counts": {
            "batches": report.batches,
            "deltas": report.deltas,
            "descriptors": report.descriptors,
            "acknowledgements": report.acknowledgements,
            "acknowledgementsUnchecked": report.acknowledgements_unchecked,
            "balancesUnchecked": report.balances_unchecked,
        },
        "duplicates": report.duplicates,
        "acknowledged": None if report.acknowledged is None else report.acknowledged.to_payload(),
        "chains": [
            {"chain": span.chain, "first": span.seq_first, "last": span.seq_last, "hash": span.hash}
            for span in report.chains
        ],
        "period": None if report.period_ms is None else list(report.period_ms),
        "byMeter": {meter: str(energy) for meter, energy in report.by_meter.items()},
        "byStep": {step: str(energy) for step, energy in report.by_step.items()},
        "unassigned": str(report.unassigned),
        "holes": [report.holes.count, str(report.holes.bound_milliwh), report.holes.unbounded],
        "flags": dict(report.flags),
        "events": dict(report.events),
        "relabelled": [
            [each.chain, each.seq_from, each.seq_to, list(each.told_ms), list(each.right_ms), each.err_ms]
            for each in report.relabelled
        ],
        "rightPeriod": None if report.right_period_ms is None else list(report.right_period_ms),
        "corrections": _corrections_of(report.corrections),
    }


def _corrections_of(found: Corrections | None) -> dict[str, Any]:
    assert found is not None

    def figures(each: Corrected) -> list[str]:
        return [str(value) for value in (each.raw, each.adjusted, each.estimated, each.bound)]

    return {
        "applied": [[*each.run, each.by] for each in found.applied],
        "byMeter": {meter: figures(each) for meter, each in found.by_meter.items()},
        "byStep": {step or "": figures(each) for step, each in found.by_step.items()},
        "notHere": found.not_here,
    }


def said_by_the_page(cases: Sequence[Case], folder: Path, *, native: bool) -> list[dict[str, Any]]:
    """What the page's judge says to each case, with node's own Ed25519 or with the page's."""
    judge = folder / "judge.js"
    judge.write_text(page.script("judge"))
    asked = [
        {
            "keys": [key.pem for key in case.keys],
            "ackKeys": [key.pem for key in case.ack_keys],
            "excerpt": case.excerpt,
            "revoked": [[kid, list(place)] for kid, place in case.revoked.items()],
            "lines": [line.decode("latin1") for line in case.lines],
        }
        for case in cases
    ]
    node = programs.find("node")
    assert node is not None
    done = subprocess.run(
        [str(node), str(_HARNESS), str(judge), "native" if native else "own"],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))
