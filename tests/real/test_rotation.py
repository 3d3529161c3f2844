"""Another signing key, and a correction, with real processes: nothing is lost, and an auditor can follow both."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from agent.adapters.keys import PublicKey, generate_key
from agent.cli import main
from agent.reporting.envelope import kid_of
from simulators.demo.rig import Rig, places
from simulators.platform.queries import broken_books
from simulators.platform.store import Store


def rotate(rig: Rig) -> PublicKey:
    """As config/KEYS.md says: a next key, its name in the site file, a restart."""
    assert rig.stop("agent") == 0
    following = generate_key(rig.folder / "next-key.pem")
    text = rig.site.read_text()
    rig.site.write_text(text.replace("[signing]\n", '[signing]\nnext_key_file = "next-key.pem"\n'))
    rig.start_agent()
    return following


def booked(rig: Rig) -> int:
    account = rig.account()
    return 0 if account is None else sum(meter.deltas for meter in account.meters.values())


def type_(*words: str) -> Result:
    return CliRunner().invoke(main, list(words), catch_exceptions=False)


def adjusted(rig: Rig) -> dict[str, Any]:
    """What the platform's totals say of adjustments."""
    account = rig.account()
    return {} if account is None else dict(account.corrections.by_meter)


def signed_since(rig: Rig, kid: str) -> int:
    """Batches that the platform booked under this key."""
    store = Store.read(rig.store)
    try:
        rows = store.rows("SELECT jws FROM batches")
    finally:
        store.close()
    return sum(kid_of(bytes(jws)) == kid for (jws,) in rows)


@pytest.mark.timeout(600)
def test_the_platform_books_on_under_the_next_key_and_the_export_holds_both(tmp_path: Path) -> None:
    with Rig(tmp_path / "rig", interval="1s", speed=60, meters=places()[10:12]) as rig:
        rig.start_broker()
        rig.start_meters()
        rig.start_platform()
        rig.start_agent()
        rig.wait_until(lambda: booked(rig) >= 4, 120, "the platform books")
        following = rotate(rig)
        rig.wait_until(
            lambda: signed_since(rig, following.kid) >= 2, 120, "it books what the next key signed"
        )

        meter = rig.meters[0].id
        words = [
            "adjust",
            meter,
            "--site",
            str(rig.site),
            "--epoch",
            "1",
            "--deltas",
            "1..2",
            "--factor",
            "4/3",
        ]
        words += ["--reason", "CT", "--evidence", str(rig.site), "--by", "Li Wei", "--yes"]
        stated = type_(*words)
        assert stated.exit_code == 0, stated.output
        rig.wait_until(lambda: meter in adjusted(rig), 120, "the platform shows the adjustment")

        rig.freeze_counters()
        rig.wait_until(lambda: rig.differences() == {}, 120, "the account is exact")
        done = type_("export", "--site", str(rig.site), "--out", str(tmp_path / "out"))
        assert done.exit_code == 0, done.output
        assert rig.stop("agent") == 0
        figures = adjusted(rig)[meter]
        store = Store.read(rig.store)
        assert broken_books(store) == []
        store.close()

    out = tmp_path / "out"
    assert {path.name for path in out.glob("agent*.pem")} == {"agent.pem", "agent-2.pem"}
    keys = json.loads((out / "manifest.json").read_text())["keys"]
    assert following.kid in {key["thumbprint"] for key in keys}
    for given in (["agent.pem"], ["agent.pem", "agent-2.pem"]):
        options = [word for name in given for word in ("--key", str(out / name))]
        verified = type_("verify", "--json", *options, str(out / "evidence.jws"))
        assert verified.exit_code == 0, verified.output
    said = json.loads(verified.output)["corrections"]["by_meter"][meter]
    assert Fraction(said["adjusted"]) - Fraction(said["raw"]) == figures.adjusted - figures.raw
    assert figures.adjusted > figures.raw
