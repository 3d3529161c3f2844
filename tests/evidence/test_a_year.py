"""A year of one-minute intervals is exported in constant memory: 20 times the batches, the same memory.

The journal is made of one real batch, repeated under other numbers, so that it is there in a second; what is measured
is the command itself, in a process of its own.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

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
    """Repeat the newest batch until there are that many; the export looks at no signature."""
    database = office.bench.journal._db
    database.execute("BEGIN")
    database.execute(
        "WITH RECURSIVE n(i) AS (SELECT 4 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
        " INSERT INTO batches (chain, seq, hash, prev, sealed_ms, energy_milliwh, jws, last_reading)"
        " SELECT chain, i, printf('%043d', i), prev, sealed_ms + 60000 * i, energy_milliwh, jws, last_reading"
        " FROM batches, n WHERE seq = 3",
        (batches,),
    )
    database.execute("COMMIT")


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
