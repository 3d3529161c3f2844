"""The page VERIFY.md, typed exactly as it is printed, on exports as they come and on spoiled ones."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from agent.metering.quantity import format_kwh
from agent.reporting.batch import Batch
from agent.reporting.envelope import base64url, base64url_decode
from agent.reporting.verdict import Report
from agent.resources import package_path
from tests.evidence.conftest import Installation
from tests.evidence.judges import Case, report_of
from tests.evidence.office import run
from tests.reporting.gateway import SECOND_CHAIN, Gateway, meter_description, resealed
from tests.reporting.keys import Key, Ring

AGENT, PLATFORM, STRANGER = Key(1), Key(2), Key(3)
PAGE = package_path("reporting", "VERIFY.md")
pytestmark = pytest.mark.jq


@dataclass(frozen=True)
class Outcome:
    """What the terminal showed."""

    code: int
    text: str

    @property
    def failed(self) -> set[str]:
        """The verdicts that do not hold."""
        return set(re.findall(r"^(\w+): DOES NOT HOLD$", self.text, re.MULTILINE))

    def total(self, kind: str, name: str) -> str:
        """A line of the totals."""
        match = re.search(rf"^{kind} {name} (\S+) kWh$", self.text, re.MULTILINE)
        assert match is not None, self.text
        return match[1]


def blocks() -> list[str]:
    """The blocks to be pasted, in their order."""
    return re.findall(r"^```bash\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def type_it(folder: Path) -> Outcome:
    """Paste all blocks, one after the other, into one bash."""
    done = subprocess.run(
        ["bash", "-c", "".join(blocks())], cwd=folder, capture_output=True, text=True, check=False
    )
    return Outcome(done.returncode, done.stdout + done.stderr)


# ---------------------------------------------------------------------------------------------- on a real export


def test_a_real_export_is_verified_and_its_totals_are_those_of_our_verify(installation: Installation) -> None:
    outcome = type_it(installation.stopped)
    assert (outcome.code, outcome.failed) == (0, set()), outcome.text
    assert "VERIFIED" in outcome.text.splitlines()
    folder = installation.stopped
    keys = ["--key", str(folder / "agent.pem"), "--acknowledgement-key", str(folder / "platform.pem")]
    report = json.loads(run("verify", *keys, "--json", str(folder / "evidence.jws")).output)
    assert len(report["by_meter"]) == len(report["by_step"]) == 26
    for meter, energy in report["by_meter"].items():
        assert outcome.total("meter", meter) == format_kwh(energy)
    for step, energy in report["by_step"].items():
        assert outcome.total("step", step) == format_kwh(int(energy))
    manifest = json.loads((folder / "manifest.json").read_text())
    for key in manifest["keys"]:
        assert f"{key['file']}  {key['thumbprint']}" in outcome.text.splitlines()


def test_it_leaves_nothing_behind_and_changes_nothing(installation: Installation, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(installation.live, copy)
    for file in copy.iterdir():
        file.chmod(0o444)
    assert type_it(copy).code == 0
    assert {file.name: file.read_bytes() for file in copy.iterdir()} == {
        file.name: file.read_bytes() for file in installation.live.iterdir()
    }


# ------------------------------------------------------------------------- on a hard one, and on spoiled copies of it


def hard_life() -> tuple[Gateway, list[bytes]]:
    """A rollover, an exchange, shares, a meter below another, a new map, a second chain, receipts."""
    meters = (
        meter_description("hall", role="incomer", steps=()),
        meter_description("m1", parent="hall", modulus=1_000_000),
        meter_description("m2", parent="hall", steps=(("smt_placement", 1, 4), ("reflow_soldering", 1, 2))),
        meter_description("roof", parent="hall", role="generation", steps=()),
    )
    gateway = Gateway(AGENT, meters)
    lines = [gateway.descriptor]

    def minute(*events: object, **rises: int) -> None:
        lines.append(gateway.minute(rises, list(events)))  # type: ignore[arg-type]

    minute(hall=3_000, m1=400_000, m2=1_000, roof=10)
    minute(hall=900_000, m1=400_000, m2=1_001, roof=10)
    lines.append(gateway.acknowledgement(PLATFORM, gateway.head))
    minute(gateway.exchange("m1", 7_000), hall=500_000, m2=999, roof=0)
    minute(hall=2_000, m1=5, m2=0, roof=0)
    carried = gateway.describe(*(replace(meter, rated_w=9_000) for meter in meters))
    lines.append(gateway.descriptor)
    minute(*carried, hall=2_000, m1=5, m2=0, roof=0)
    gateway.chain = SECOND_CHAIN
    minute(hall=1, m1=1, m2=1, roof=1)
    minute(hall=1, m1=1, m2=1, roof=1)
    lines.append(gateway.acknowledgement(PLATFORM, gateway.head, 2))
    minute(hall=1, m1=1, m2=1, roof=1)
    return gateway, lines


def put(folder: Path, lines: list[bytes]) -> Path:
    """An export of these lines."""
    (folder / "evidence.jws").write_bytes(b"".join(line + b"\n" for line in lines))
    (folder / "agent.pem").write_bytes(AGENT.pem)
    (folder / "platform.pem").write_bytes(PLATFORM.pem)
    return folder


def judged(lines: list[bytes]) -> Report:
    """What our verify says of the same."""
    from agent.adapters.keys import public_key_of_jwk

    return report_of(Case(lines, [public_key_of_jwk(AGENT.jwk)], [public_key_of_jwk(PLATFORM.jwk)]))


def test_a_hard_life_is_verified_with_the_same_totals(tmp_path: Path) -> None:
    _, lines = hard_life()
    report, outcome = judged(lines), type_it(put(tmp_path, lines))
    assert report.ok, [verdict.findings for verdict in report.verdicts.values()]
    assert (outcome.code, outcome.failed) == (0, set()), outcome.text
    for meter, energy in report.by_meter.items():
        assert outcome.total("meter", meter) == format_kwh(energy)
    for step, part in report.by_step.items():
        assert outcome.total("step", step) == format_kwh(round(part))
    assert outcome.total("step", "unassigned") == format_kwh(round(report.unassigned))
    assert '"type":"epoch"' in outcome.text


def test_the_totals_of_a_period(tmp_path: Path) -> None:
    gateway, lines = hard_life()
    script = "".join(blocks())
    for line, time in (("from=0", "2025-10-09T08:54:20.000Z"), ("to=9", "2025-10-09T08:55:20.000Z")):
        assert script.count(f"{line}\n") == 1
        script = script.replace(f"{line}\n", f"{line[: line.index('=')]}={time}\n")
    done = subprocess.run(
        ["bash", "-c", script], cwd=put(tmp_path, lines), capture_output=True, text=True, check=False
    )
    outcome = Outcome(done.returncode, done.stdout + done.stderr)
    assert outcome.code == 0, outcome.text
    assert outcome.total("meter", "m2") == "0.001001", "only the second minute"
    assert gateway.registers["m2"].n == 8


def resigned(lines: list[bytes], change: Callable[[list[Batch]], list[Batch]]) -> list[bytes]:
    """What somebody who stole the gateway's key could write: other batches, with the links and signatures to match."""
    from agent.reporting import envelope

    batches = [
        Batch.from_payload(envelope.open_sealed(line, envelope.BATCH, Ring(AGENT)).payload)
        for line in lines
        if envelope.typ_of(line) == envelope.BATCH
    ]
    maps = [line for line in lines if envelope.typ_of(line) == envelope.DESCRIPTOR]
    return [*maps, *resealed(change(batches), AGENT)]


def with_delta(batches: list[Batch], index: int, **changes: object) -> list[Batch]:
    """Change the first delta of one batch."""
    batch = batches[index]
    delta = replace(batch.deltas[0], **changes)  # type: ignore[arg-type]
    return [*batches[:index], replace(batch, deltas=(delta, *batch.deltas[1:])), *batches[index + 1 :]]


def edited(line: bytes) -> bytes:
    """One more kWh in the payload, the signature left as it is."""
    header, payload, signature = line.decode().split(".")
    text = base64url_decode(payload).replace(b'"delta":3000', b'"delta":9000')
    return f"{header}.{base64url(text)}.{signature}".encode()


STRICTER = ("a batch doubled", "a map taken out")
"""Our verify ignores a repeat and finds the map in the batches' events; an export has neither need."""

SPOILED: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str]] = {
    "an edited delta": (lambda lines: [lines[0], edited(lines[1]), *lines[2:]], "signature"),
    "a flipped signature": (lambda lines: [*lines[:-1], lines[-1][:-9] + b"AAAAAAAAA"], "signature"),
    "an unsigned line": (lambda lines: [*lines, lines[-1].rpartition(b".")[0] + b"."], "signature"),
    "rubbish": (lambda lines: [*lines, b"rubbish"], "signature"),
    "an empty file": (lambda lines: [], "signature"),
    "no batch at all": (lambda lines: lines[:1], "chain"),
    "a batch taken out": (lambda lines: lines[:2] + lines[3:], "chain"),
    "two batches exchanged": (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], "chain"),
    "a batch doubled": (lambda lines: [*lines[:3], *lines[2:]], "chain"),
    "the beginning cut off": (lambda lines: [lines[0], *lines[2:]], "chain"),
    "the end cut off": (lambda lines: [*lines[:8], lines[10]], "chain"),
    "a map taken out": (lambda lines: lines[1:], "chain"),
    "a chain that replaces another": (lambda lines: [lines[0], *lines[8:]], "chain"),
    "an acknowledgement signed by the gateway": (
        lambda lines: [*lines, Gateway(AGENT).acknowledgement(AGENT, None)],
        "signature",
    ),
    "a delta that is not its registers'": (
        lambda lines: resigned(lines, lambda all_: with_delta(all_, 1, delta=1)),
        "conservation",
    ),
    "a register that jumps": (
        lambda lines: resigned(lines, lambda all_: with_delta(all_, 3, reg_start=1, delta=1_904_999)),
        "conservation",
    ),
    "a number left out": (
        lambda lines: resigned(lines, lambda all_: with_delta(all_, 3, n=9)),
        "conservation",
    ),
    "an invented rollover": (
        lambda lines: resigned(lines, lambda all_: with_delta(all_, 0, roll=77, delta=3_077)),
        "conservation",
    ),
    "an exchange without its event": (
        lambda lines: resigned(lines, lambda all_: [*all_[:2], replace(all_[2], events=()), *all_[3:]]),
        "conservation",
    ),
    "a first delta that is not the first": (
        lambda lines: resigned(lines, lambda all_: with_delta(all_, 0, n=2)),
        "conservation",
    ),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_spoiled_export_is_not_verified(name: str, tmp_path: Path) -> None:
    _, lines = hard_life()
    spoil, verdict = SPOILED[name]
    outcome = type_it(put(tmp_path, spoil(lines)))
    assert outcome.code == 1, outcome.text
    assert verdict in outcome.failed, outcome.text
    assert "NOT VERIFIED" in outcome.text.splitlines()
    if name not in STRICTER:
        assert not judged(spoil(lines)).ok, "and our verify says so as well"


def test_a_stolen_key_alone_breaks_conservation_only(tmp_path: Path) -> None:
    _, lines = hard_life()
    spoil, _ = SPOILED["a delta that is not its registers'"]
    assert type_it(put(tmp_path, spoil(lines))).failed == {"conservation"}
    assert type_it(put(tmp_path, resigned(lines, list))).code == 0


def test_the_wrong_key_verifies_nothing(tmp_path: Path) -> None:
    _, lines = hard_life()
    put(tmp_path, lines)
    (tmp_path / "agent.pem").write_bytes(STRANGER.pem)
    outcome = type_it(tmp_path)
    assert (outcome.code, "signature" in outcome.failed) == (1, True)
