"""A year of one-minute intervals is exported in constant memory: 20 times the batches, the same memory.

The journal is made of one real batch, repeated under other numbers, so that it is there in a few seconds; what is
measured is the command itself, in a process of its own.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from agent.reporting import envelope
from agent.reporting.chain import ChainHead
from agent.service.journal import SealedBatch
from tests.evidence.office import Office

BATCHES = 60_000
"""Six weeks of one-minute intervals; ten times as many take ten times as long and no more memory."""
COMMAND = """
import json, resource, sys
from tests.evidence.office import run
done = run("export", "--site", sys.argv[1], "--out", sys.argv[2])
assert done.exit_code == 0, done.output
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
"""


def fill(office: Office, batches: int) -> None:
    """Repeat the newest batch under other numbers until there are that many; the export looks at no signature."""
    journal = office.bench.journal
    head = journal.state().head
    last = None if head is None else journal.batch(head)
    assert last is not None and last.jws is not None and last.head.seq == 3
    header, payload, signature = last.jws.split(b".")
    says = envelope.base64url_decode(payload.decode())
    with journal.transaction():
        for seq in range(last.head.seq + 1, batches + 1):
            again = says.replace(b'"seq":3', b'"seq":%d' % seq)
            jws = b".".join((header, envelope.base64url(again).encode(), signature))
            journal.append_batch(
                SealedBatch(
                    ChainHead(last.head.chain, seq, envelope.signing_input_hash(jws)),
                    last.prev,
                    None,
                    last.sealed_ms + 60_000 * seq,
                    1,
                    jws,
                )
            )


def exported(folder: Path, batches: int) -> tuple[int, int]:
    """Export so many batches; gives the largest resident memory in KiB and the number of lines."""
    folder.mkdir()
    office = Office(folder)
    office.work(3)
    fill(office, batches)
    office.bench.journal.close()
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, str(office.site), str(folder / "out")],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert done.returncode == 0, done.stderr
    manifest = json.loads((folder / "out" / "manifest.json").read_text())
    return json.loads(done.stdout), manifest["counts"]["batches"]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length_of_the_export(tmp_path: Path) -> None:
    short, few = exported(tmp_path / "short", BATCHES // 20)
    long, many = exported(tmp_path / "long", BATCHES)
    assert (few, many) == (BATCHES // 20, BATCHES)
    size = (tmp_path / "long" / "out" / "evidence.jws").stat().st_size
    assert size > 60 * 2**20, "what was written is many times what may be held"
    assert long - short < 4 * 1024, f"{short} KiB for {few} batches, {long} KiB for {many}"
