"""`metering-agent verify`: what an auditor gets to see, and the exit codes a script can rely on."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from agent.cli.group import main
from agent.reporting import envelope, event
from agent.reporting.utc import text_of_ms
from tests.reporting.gateway import CHAIN, START_MS, Gateway, meter_description
from tests.reporting.keys import Key

AGENT, PLATFORM, NEXT_KEY = Key(1), Key(2), Key(3)
SHARED = meter_description("m2", steps=(("smt_placement", 1, 3), ("reflow_soldering", 1, 3)))


@dataclass
class Desk:
    """A folder with an export and the keys, and the command to judge it."""

    folder: Path
    gateway: Gateway

    def write(self, *lines: bytes, name: str = "export.jws") -> None:
        """Put lines into a file."""
        (self.folder / name).write_bytes(b"".join(line + b"\n" for line in lines))

    def run(self, *arguments: str, name: str = "export.jws", data: bytes | None = None) -> Result:
        """Type the command in the folder."""
        file = name if name == "-" else str(self.folder / name)
        typed = [str(self.folder / text) if text.endswith((".pem", ".jws")) else text for text in arguments]
        return CliRunner().invoke(main, ["verify", *typed, file], input=data)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Three minutes of two meters, acknowledged."""
    gateway = Gateway(AGENT, (meter_description("m1"), SHARED))
    for _ in range(3):
        gateway.minute({"m1": 1_000_000, "m2": 500})
    made = Desk(tmp_path, gateway)
    made.write(*gateway.jws, gateway.acknowledgement(PLATFORM, gateway.head))
    (tmp_path / "agent.pem").write_bytes(AGENT.pem)
    (tmp_path / "platform.pem").write_bytes(PLATFORM.pem)
    (tmp_path / "next.pem").write_bytes(NEXT_KEY.pem)
    return made


def test_an_honest_export_is_verified_with_totals_by_meter_and_step(desk: Desk) -> None:
    result = desk.run("--key", "agent.pem", "--acknowledgement-key", "platform.pem")
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.output.splitlines()]
    for verdict in ("signature", "chain", "conservation"):
        assert [verdict, "holds"] in [line[:2] for line in lines]
    assert ["quality", "clean"] in [line[:2] for line in lines]
    for total in (
        ["m1", "3.000000"],
        ["m2", "0.001500"],
        ["step_m1", "3.000000"],
        ["smt_placement", "0.000500"],
        ["reflow_soldering", "0.000500"],
        ["unassigned", "0.000500"],
    ):
        assert total in lines
    assert ["acknowledged", "up", "to", "chain", f"{CHAIN},", "seq", "3"] in lines
    assert result.output.endswith("VERIFIED\n")


def test_an_end_that_no_receipt_names_is_called_open(desk: Desk) -> None:
    keys = ("--key", "agent.pem", "--acknowledgement-key", "platform.pem")
    assert "end           open" not in desk.run(*keys).output
    desk.write(*desk.gateway.jws[:-1])  # the last batch and its receipt: their absence cannot be proved
    assert "end           open: no receipt read here names the last batch" in desk.run(*keys).output
    assert "cut off" not in desk.run(*keys).output


def test_the_same_as_json_in_exact_numbers(desk: Desk) -> None:
    result = desk.run("--key", "agent.pem", "--acknowledgement-key", "platform.pem", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.output)
    assert report["ok"] is True
    assert {name: verdict["ok"] for name, verdict in report["verdicts"].items()} == {
        "signature": True,
        "chain": True,
        "conservation": True,
        "quality": True,
    }
    assert report["by_meter"] == {"m1": 3_000_000, "m2": 1_500}
    assert report["by_step"] == {"reflow_soldering": "500", "smt_placement": "500", "step_m1": "3000000"}
    assert report["unassigned"] == "500"
    assert report["period"] == [text_of_ms(START_MS), text_of_ms(START_MS + 180_000)]
    assert report["acknowledged"]["seq"] == 3


def test_a_share_that_is_no_whole_number_stays_exact_in_json(desk: Desk) -> None:
    desk.gateway.minute({"m2": 1})
    desk.write(*desk.gateway.jws)
    report = json.loads(desk.run("--key", "agent.pem", "--json").output)
    assert report["by_step"]["smt_placement"] == "1501/3"


@pytest.mark.parametrize(
    ("spoil", "verdict"),
    [
        (lambda lines: [lines[0], lines[2]], "chain"),
        (lambda lines: [lines[0], lines[2], lines[1]], "chain"),
        (lambda lines: [lines[0], lines[1][:-9] + b"AAAAAAAAA", lines[2]], "signature"),
        (lambda lines: [], "chain"),
        (lambda lines: [*lines, b"x" * 1_000_000, b"y"], "signature"),
    ],
)
def test_a_fault_is_named_and_the_exit_code_is_one(desk: Desk, spoil: object, verdict: str) -> None:
    desk.write(*spoil(desk.gateway.jws))  # type: ignore[operator]
    result = desk.run("--key", "agent.pem")
    assert result.exit_code == 1
    assert any(line.split()[:2] == [verdict, "FAILS"] for line in result.output.splitlines())
    assert "NOT VERIFIED: " in result.output
    assert verdict in result.output.splitlines()[-1]


def test_a_line_without_end_counts_as_one_line(desk: Desk) -> None:
    desk.write(b"x" * 1_000_000, b"", b"y")
    result = desk.run("--key", "agent.pem", "--json")
    findings = json.loads(result.output)["verdicts"]["signature"]["findings"]
    assert [finding["line"] for finding in findings] == [1, 3]


def test_quality_alone_does_not_fail(desk: Desk) -> None:
    gateway = desk.gateway
    gateway.now_ms += 60_000
    gateway.seal(gateway.batch([gateway.delta("m1", 1, "gap", "suspect")]))
    desk.write(*gateway.jws)
    result = desk.run("--key", "agent.pem")
    assert result.exit_code == 0
    assert "2 remarks" in result.output
    assert "  flags         gap 1, suspect 1" in result.output.splitlines()
    remarks = result.output[result.output.index("Worth a look") :].splitlines()
    # Each remark once, and below it where, from when to when, and how much energy is concerned.
    for flag in ("gap: spans missed", "suspect: a refused"):
        (at,) = [number for number, line in enumerate(remarks) if line.strip().startswith(flag)]
        assert "meter m1, epoch 1, n 4" in remarks[at + 1]
        assert (
            f"{text_of_ms(START_MS + 180_000)} to {text_of_ms(START_MS + 240_000)}, 0.000001 kWh"
            in remarks[at + 1]
        )


def test_the_same_remark_on_many_deltas_is_one_stretch(desk: Desk) -> None:
    gateway = desk.gateway
    for minute in range(10):
        gateway.now_ms += 60_000
        flags = ("clock",) if minute != 5 else ()
        gateway.seal(gateway.batch([gateway.delta("m1", 1, *flags), gateway.delta("m2", 0, "late")]))
    desk.write(*gateway.jws)
    report = json.loads(desk.run("--key", "agent.pem", "--json").output)
    found = report["verdicts"]["quality"]["findings"]
    assert [(entry["place"], entry["span"].rpartition(", ")[2]) for entry in found] == [
        ("meter m1, epoch 1, n 4 to 8", "0.000005 kWh"),
        ("meter m1, epoch 1, n 10 to 13", "0.000004 kWh"),
    ]
    assert report["flags"] == {"clock": 9, "late": 10}


def test_more_findings_than_are_shown_are_counted(desk: Desk) -> None:
    desk.write(*([b"rubbish"] * 150))
    assert "    and 50 more" in desk.run("--key", "agent.pem").output


def test_without_the_platform_key_it_says_what_was_not_read(desk: Desk) -> None:
    result = desk.run("--key", "agent.pem")
    assert result.exit_code == 0
    assert "  not read      1 acknowledgements; give --acknowledgement-key" in result.output.splitlines()


def test_the_wrong_platform_key_is_a_finding(desk: Desk) -> None:
    result = desk.run("--key", "agent.pem", "--acknowledgement-key", "agent.pem")
    assert result.exit_code == 1
    assert "unknown-key" in result.output


def test_the_export_may_come_on_standard_input(desk: Desk) -> None:
    result = desk.run("--key", "agent.pem", name="-", data=b"\n".join(desk.gateway.jws))
    assert result.exit_code == 0, result.output


def test_an_excerpt_takes_its_descriptor_from_a_file_and_is_declared(desk: Desk) -> None:
    desk.write(*desk.gateway.jws[1:], name="rest.jws")
    desk.write(desk.gateway.descriptor, name="desc.jws")
    asked = ("--key", "agent.pem", "--descriptor", "desc.jws")
    assert desk.run(*asked, name="rest.jws").exit_code == 1
    assert desk.run(*asked, "--excerpt", name="rest.jws").exit_code == 0
    assert desk.run("--key", "agent.pem", "--excerpt", name="rest.jws").exit_code == 1


def test_two_keys_and_a_rotation(desk: Desk) -> None:
    gateway = desk.gateway
    members = {"v": "1.0", "org": gateway.org, "agent": gateway.agent, "jwk": NEXT_KEY.jwk, "sw": "1"}
    proof = envelope.seal(envelope.ENROLMENT, {**members, "at": text_of_ms(START_MS)}, NEXT_KEY)
    gateway.minute({"m1": 1}, [event.key_rotate_event(START_MS, jwk=NEXT_KEY.jwk, proof=proof)])
    gateway.key = NEXT_KEY
    gateway.minute({"m1": 1})
    desk.write(*gateway.jws)
    assert desk.run("--key", "agent.pem").exit_code == 0
    assert desk.run("--key", "agent.pem", "--key", "next.pem").exit_code == 0
    assert desk.run("--key", "next.pem").exit_code == 1


# ---------------------------------------------------------------------------- not asked properly


def test_a_missing_file_is_a_usage_fault(desk: Desk) -> None:
    result = desk.run("--key", "agent.pem", name="nowhere.jws")
    assert result.exit_code == 2
    assert "nowhere.jws" in result.output
    assert "does not exist" in result.output


def test_a_missing_key_is_a_usage_fault(desk: Desk) -> None:
    assert desk.run().exit_code == 2
    assert desk.run("--key", "nowhere.pem").exit_code == 2


@pytest.mark.parametrize("option", ["--key", "--acknowledgement-key"])
@pytest.mark.parametrize(
    "content", [b"", b"not a key", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"]
)
def test_a_bad_pem_is_a_usage_fault_with_its_name(desk: Desk, option: str, content: bytes) -> None:
    (desk.folder / "bad.pem").write_bytes(content)
    keys = ("--key", "bad.pem") if option == "--key" else ("--key", "agent.pem", option, "bad.pem")
    result = desk.run(*keys)
    assert result.exit_code == 2
    assert option in result.output
    assert "bad.pem" in result.output
    assert "public key" in result.output
    assert "Traceback" not in result.output


def test_a_wrong_key_is_said_once_with_its_lines_and_what_to_ask(desk: Desk) -> None:
    result = desk.run("--key", "next.pem")
    assert result.exit_code == 1
    assert result.output.count("unknown-key") == 1
    assert f"    lines 1 to {len(desk.gateway.jws)}, message: unknown-key: no key " in result.output
    assert "Is --key the key of this gateway" in result.output
    assert "the deltas of every meter add up" not in result.output, "nothing was judged"
