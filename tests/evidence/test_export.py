"""`metering-agent export`: what is in the folder, in which order, and that it stands on its own."""

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from agent.adapters.keys import generate_key, load_signer
from agent.cli.exits import NO, TRY_AGAIN, USAGE
from agent.errors import JournalDamaged
from agent.metering.interval import DAY_MS
from agent.reporting.chain import ChainHead
from agent.reporting.utc import text_of_ms
from agent.service.export import Closing, Evidence, Item, Opening, Pager, Period, Purged, from_line, to_line
from agent.service.signing import settle_keys
from tests.evidence.office import SITE, Office, kinds, run
from tests.service.bench import NOON_MS

ROOT = Path(__file__).resolve().parents[2]
HOUR_MS = 3_600_000


@pytest.fixture
def office(tmp_path: Path) -> Office:
    """A gateway that has not read anything yet."""
    return Office(tmp_path)


def manifest(office: Office, out: str = "out") -> dict[str, Any]:
    """The manifest of an export."""
    return dict(json.loads((office.folder / out / "manifest.json").read_text()))


def evidence(office: Office, out: str = "out") -> list[bytes]:
    """The lines of an export."""
    return (office.folder / out / "evidence.jws").read_bytes().splitlines()


def test_after_a_rotation_every_key_that_signed_is_in_it(office: Office) -> None:
    settle_keys(office.bench.journal, office.bench.signers, site="", platform_answers=True)
    office.work(2)
    office.acknowledge(office.head())
    old = office.bench.signer
    generate_key(office.folder / "next.pem")
    office.bench.following = load_signer(office.folder / "next.pem")
    office.bench.wire(office.bench.meters)
    office.work(3)
    new = office.bench.signer = office.bench.following
    office.bench.following = None
    office.site.write_text(SITE.replace("key.pem", "next.pem"))
    office.bench.wire(office.bench.meters)
    office.work(2)
    done = office.export()
    said = manifest(office)
    files = {entry["file"]: entry["thumbprint"] for entry in said["keys"] if entry["of"] == "agent"}
    assert files == {"agent.pem": new.kid, "agent-2.pem": old.kid}
    assert "WARNING" not in done.output
    both = office.verify("out", "--key", str(office.folder / "out" / "agent-2.pem"))
    assert both.exit_code == 0, both.output
    folder = office.folder / "out"
    old_alone = run("verify", "--key", str(folder / "agent-2.pem"), str(folder / "evidence.jws"))
    assert old_alone.exit_code == 0, "the rotation in the chain vouches for the new key"
    assert office.verify().exit_code == 1, "the new key alone does not vouch for what the old one signed"


# ------------------------------------------------------------------------------------------------ the whole folder


def test_a_folder_holds_everything_that_an_auditor_needs(office: Office) -> None:
    office.work(5)
    office.acknowledge(office.head())
    office.work(2)
    done = office.export()
    assert done.exit_code == 0, done.output
    folder = office.folder / "out"
    names = {"evidence.jws", "agent.pem", "platform.pem", "VERIFY.md", "verify.html", "manifest.json"}
    assert {file.name for file in folder.iterdir()} == names
    said = manifest(office)
    assert {entry["name"] for entry in said["files"]} == names - {"manifest.json"}
    for entry in said["files"]:
        data = (folder / entry["name"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (entry["bytes"], entry["sha256"])
    assert said["gateway"] == {"org": "org", "agent": "gw01"}
    assert said["counts"] == {
        "batches": 7,
        "deltas": 12,
        "events": said["counts"]["events"],
        "descriptors": 1,
        "acknowledgements": 1,
        "superseded_left_out": 0,
        "purged_only_hashes": 0,
    }
    assert [key["thumbprint"] for key in said["keys"]] == [office.bench.signer.kid, office.platform.kid]
    assert all(key["thumbprint"] in done.output for key in said["keys"])
    assert said["heads_when_made"]["journal"]["seq"] == 7
    assert said["heads_when_made"]["acknowledged"]["seq"] == 5
    assert said["chains"][0]["hash"] == office.head().hash


def test_a_descriptor_stands_before_its_first_use_and_a_receipt_behind_the_batch_it_names(
    office: Office,
) -> None:
    office.work(3)
    office.acknowledge(office.head())
    office.work(2)
    office.export()
    assert kinds(evidence(office)) == ["desc", "batch", "batch", "batch", "ack", "batch", "batch"]
    assert office.verify().exit_code == 0


def test_what_the_manifest_tells_to_type_is_what_verifies(office: Office) -> None:
    office.work(3)
    office.acknowledge(office.head())
    said = office.export().output
    (command,) = [
        line.strip() for line in said.splitlines() if line.strip().startswith("metering-agent verify")
    ]
    code = "import sys; from agent.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *command.split()[1:]], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "VERIFIED")
    own = manifest(office)["verify"]["command"].split()
    assert own == [
        "metering-agent",
        *(word.replace(f"{office.folder}/out/", "") for word in command.split()[1:]),
    ]


def test_a_zip_holds_the_same_files_and_a_broken_off_export_leaves_nothing(office: Office) -> None:
    office.work(4)
    office.export("plain")
    assert office.export("out.zip").exit_code == 0
    with zipfile.ZipFile(office.folder / "out.zip") as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    assert set(held) == {f"out/{file.name}" for file in (office.folder / "plain").iterdir()}
    for name in ("evidence.jws", "agent.pem", "VERIFY.md"):
        assert held[f"out/{name}"] == (office.folder / "plain" / name).read_bytes()
    assert not list(office.folder.glob("*.partial"))


def test_json_is_the_manifest(office: Office) -> None:
    office.work(2)
    done = office.export("out", "--json")
    assert json.loads(done.output) == manifest(office)


def test_an_export_is_never_overwritten_and_nothing_to_export_is_no_export(office: Office) -> None:
    done = office.export()
    assert done.exit_code == NO
    assert "no batch was sealed in this period" in done.stderr
    assert not (office.folder / "out").exists()
    office.work(2)
    assert office.export().exit_code == 0
    before = evidence(office)
    done = office.export()
    assert done.exit_code == USAGE
    assert "exists already" in done.stderr
    assert evidence(office) == before
    assert not list(office.folder.glob("*.partial"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--from", "yesterday"], "is not a time"),
        (["--from", "2026-01-02", "--to", "2026-01-01"], "not after the beginning"),
    ],
)
def test_a_wrong_time_is_said(office: Office, words: list[str], message: str) -> None:
    office.work(1)
    done = office.export("out", *words)
    assert done.exit_code == USAGE
    assert message in " ".join(done.stderr.split())


def test_a_signing_key_that_only_the_service_may_open_needs_its_public_half(office: Office) -> None:
    office.work(2)
    text = office.site.read_text()
    office.site.write_text(text.replace('key_file = "key.pem"', 'credential = "signing-key"'))
    done = office.export()
    assert done.exit_code == USAGE
    assert "give its public key with --key FILE" in done.stderr
    (office.folder / "public.pem").write_text(office.bench.signer.public_key.pem)
    assert office.export("out", "--key", str(office.folder / "public.pem")).exit_code == 0
    assert office.verify().exit_code == 0


def test_a_credential_needs_nothing_where_the_journal_knows_its_public_key(office: Office) -> None:
    settle_keys(office.bench.journal, office.bench.signers, site="site.toml", platform_answers=True)
    office.work(2)
    text = office.site.read_text()
    office.site.write_text(text.replace('key_file = "key.pem"', 'credential = "signing-key"'))
    done = office.export()
    assert done.exit_code == 0, done.stderr
    assert office.bench.signer.kid in done.output and "WARNING" not in done.output
    assert office.verify().exit_code == 0


def test_a_key_that_did_not_sign_is_warned_of(office: Office) -> None:
    office.work(2)
    done = office.export("out", "--key", str(office.folder / "platform.pem"))
    assert f"WARNING: 3 messages are signed by key {office.bench.signer.kid}" in done.output


def test_where_there_is_no_journal_none_is_made(office: Office) -> None:
    office.bench.journal.close()
    (office.folder / "journal.db").unlink()
    done = run("export", "--site", str(office.site), "--out", str(office.folder / "out"))
    assert done.exit_code == USAGE
    assert "there is no journal" in done.stderr
    assert not (office.folder / "journal.db").exists()


def test_a_journal_that_another_process_holds_is_left_alone(office: Office) -> None:
    office.work(1)
    code = "from pathlib import Path; from tests.evidence.office import run; import sys; done = run(*sys.argv[1:]);"
    words = ["export", "--site", str(office.site), "--out", str(office.folder / "out")]
    done = subprocess.run(
        [sys.executable, "-c", f"{code} print(done.stderr); sys.exit(done.exit_code)", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == TRY_AGAIN, done.stderr
    assert "only one metering-agent may run on it" in done.stdout
    assert not list(office.folder.glob("out*"))


# ------------------------------------------------------------------------------------------------------- a period


def days(office: Office, count: int) -> list[ChainHead]:
    """Some days of four minutes each, acknowledged after the third; gives what the receipts name."""
    named = []
    for _ in range(count):
        office.work(3)
        named.append(office.head())
        office.acknowledge(office.head())
        office.work(1)
        office.night()
    return named


def test_a_period_begins_at_the_receipt_before_it_and_so_needs_no_excuse(office: Office) -> None:
    named = days(office, 4)
    office.export(
        "out", "--from", text_of_ms(NOON_MS + 2 * DAY_MS - HOUR_MS), "--to", text_of_ms(NOON_MS + 3 * DAY_MS)
    )
    said = manifest(office)
    # The day's own batches 9 to 12, and batch 8 of the day before, which follows the receipt of batch 7.
    assert said["chains"] == [{**said["chains"][0], "seq_first": 8, "seq_last": 12}]
    assert said["begins_after"] == named[1].to_payload()
    assert (said["beginning_proved"], said["period"]["batches_before_it"]) == (True, 1)
    assert kinds(evidence(office))[:3] == ["ack", "desc", "batch"]
    assert "--excerpt" not in said["verify"]["command"]
    done = office.verify()
    assert done.exit_code == 0, done.output


def test_without_receipts_a_period_is_an_excerpt_and_says_so(office: Office) -> None:
    office.work(6)
    cut = office.bench.clock.now_ms - 2 * 60_000
    office.export("out", "--from", text_of_ms(cut))
    said = manifest(office)
    assert (said["beginning_proved"], said["chains"][0]["seq_first"]) == (False, 5)
    assert "--excerpt" in said["verify"]["command"]
    assert office.verify().exit_code == 1
    assert office.verify("out", "--excerpt").exit_code == 0


@pytest.mark.fault("F39")
def test_a_clock_that_was_set_back_tears_no_hole_into_an_export(office: Office) -> None:
    office.work(5)
    office.bench.clock.now_ms -= 3 * DAY_MS
    office.work(5)
    office.export()
    assert office.verify().exit_code == 0
    office.export("part", "--from", text_of_ms(office.bench.clock.now_ms - 60_000))
    seqs = [manifest(office, "part")["chains"][0][name] for name in ("seq_first", "seq_last")]
    assert seqs[1] == 10
    assert manifest(office, "part")["counts"]["batches"] == seqs[1] - seqs[0] + 1


# ------------------------------------------------------------------------------------- purged, superseded, restored


def test_what_was_purged_is_given_as_hashes_and_a_receipt_proves_the_rest(office: Office) -> None:
    days(office, 3)
    office.night(120)
    office.stand()  # the circuits were off: a rise might hide a turn after so long
    days(office, 2)
    office.acknowledge(office.head())
    office.export()
    said = manifest(office)
    hashes = [json.loads(line) for line in (office.folder / "out" / "purged.jsonl").read_text().splitlines()]
    assert [entry["seq"] for entry in hashes] == list(range(1, said["counts"]["purged_only_hashes"] + 1))
    assert len(hashes) >= 11
    assert said["chains"][0]["seq_first"] == len(hashes) + 1
    assert said["begins_after"] == {name: hashes[-1][name] for name in ("chain", "seq", "hash")}
    assert said["beginning_proved"] is True
    assert kinds(evidence(office)).count("ack") == 6
    done = office.verify()
    assert done.exit_code == 0, done.output
    assert "purged.jsonl" in {entry["name"] for entry in said["files"]}


def test_a_restored_gateway_exports_both_chains_and_leaves_out_what_was_never_sent(office: Office) -> None:
    office.work(3)
    known, heads = office.head(), office.heads()
    office.acknowledge(known)
    office.work(4)
    # The platform was told of another batch than ours behind the third: our later ones are told by a new chain.
    office.acknowledge(ChainHead(known.chain, 99, "x" * 43), heads=heads, session="s", rev=1)
    office.work(2)
    office.export()
    said = manifest(office)
    assert len(said["chains"]) == 2
    assert said["counts"]["superseded_left_out"] == 4
    assert "never sent" in office.export("again").output


# ------------------------------------------------------------------------------------------------- pages and lines


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_pages_of_any_size_give_the_same_lines(office: Office, size: int) -> None:
    days(office, 2)
    whole = [item for page in pages(office, 1_000) for item in page]
    assert [item for page in pages(office, size) for item in page] == whole
    assert max(len(page) for page in pages(office, size)) <= 3 * size
    assert isinstance(whole[0], Opening)
    assert whole[-1] == Closing(batches=8, purged=0, superseded=0)


def pages(office: Office, size: int) -> list[list[Item]]:
    """An export, page by page."""
    pager, found = Pager(Period(), size), []
    while page := pager.page(office.bench.journal):
        found.append(page)
    return found


def test_every_item_survives_the_control_socket() -> None:
    head = ChainHead("01JCHA1N0000000000000000A1", 7, "h" * 43)
    for item in (
        Opening(head, None, None, True, 0),
        Opening(head, head, head, False, 12),
        Evidence(b"a.b.c"),
        Purged(head, 5),
        Purged(head, None),
        Closing(1, 2, 3),
    ):
        assert from_line(to_line(item)) == item


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"error": "the disk is gone"}', "the disk is gone"),
        (b'{"closing": {"batches": -1, "purged": 0, "superseded": 0}}', "not a number"),
        (b'{"something": 1}', "not a line of an export"),
        (b"{", "Expecting property name"),
    ],
)
def test_a_line_that_is_none_of_ours_is_no_item(line: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        from_line(line)


@pytest.mark.parametrize("value", [-1, 1.5, "now", True, 10**18])
def test_a_time_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="whole milliseconds"):
        Period.from_arguments({"from_ms": value})


def test_a_receipt_that_cannot_be_read_is_damage_and_not_a_shorter_export(office: Office) -> None:
    office.work(2)
    office.bench.acknowledge(office.head(), number=1)  # keeps "receipt 1" as its text
    with pytest.raises(JournalDamaged, match="cannot be read"):
        pages(office, 10)
