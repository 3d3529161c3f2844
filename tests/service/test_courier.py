"""A month by stick: sticks are lost, doubled and carried in the wrong order, and the accounts agree exactly."""

import asyncio
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest
from click.testing import CliRunner

from agent.adapters.control import ControlSocket
from agent.adapters.keys import PublicKeys, generate_key, load_signer
from agent.cli.courier import courier as command
from agent.cli.courier import write_stick
from agent.errors import ConfigError, RetryLater
from agent.reporting import envelope
from agent.reporting.courier import ANSWERS, DOWN, MANIFEST, UP, folder_name
from agent.service.courier import Courier
from agent.service.dialogue import Dialogue
from agent.service.journal import Journal
from agent.service.publish import Publisher
from agent.service.seal import Identity
from agent.service.signing import settle_keys
from simulators.platform import Platform, Store, queries
from simulators.platform.courier import as_lines, visit
from tests.service.bench import Bench
from tests.simulators.bench import PLATFORM_KEY

T = TypeVar("T")
WHO = Identity("org", "gw01", "carbon.example", "0.1.0")
FOLDER = folder_name("org", "gw01")
QUARTER_DAY_MS = 6 * 3_600_000


class Inline:
    """Storage without a thread."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    async def run(self, work: Callable[[Journal], T]) -> T:
        return work(self._bench.journal)


class Site:
    """A gateway without any network, and a platform without any."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bench = Bench(folder)
        self.counts = {"reflow-1": 1000, "wave-1": 500}
        settle_keys(self.bench.journal, self.bench.signers, site="site.toml", platform_answers=True)
        self.connect()
        self.store = Store.create(":memory:")
        self.office()

    def connect(self) -> None:
        """Put up the part of the agent that talks."""
        bench, storage = self.bench, Inline(self.bench)
        nowhere = cast(Any, None)
        publisher = Publisher(WHO, storage, nowhere, bench.clock, bench.dice)
        self.dialogue = Dialogue(
            WHO,
            bench.signers,
            PublicKeys([PLATFORM_KEY.public_key]),
            storage,
            nowhere,
            bench.clock,
            bench.acknowledger,
            publisher,
            mode="platform",
        )
        self.courier = Courier(WHO, bench.signers, storage, self.dialogue, bench.clock, bench.dice)

    def office(self, gen: int | None = None) -> None:
        """The platform, on whatever is in its store."""
        known = [self.bench.signer.public_key]
        self.platform = Platform(
            self.store,
            audience=WHO.audience,
            signer=PLATFORM_KEY,
            keys={("org", "gw01"): known},
            clock=self.bench.clock,
            gen=gen,
        )

    def intervals(self, count: int, chance: random.Random) -> None:
        """Time passes at the factory."""
        for _ in range(count):
            self.bench.clock.now_ms += QUARTER_DAY_MS - 60_000
            for meter in self.counts:
                self.counts[meter] += chance.randrange(200)
            self.bench.read({meter: count % 10**6 for meter, count in self.counts.items()})

    def lines(self) -> Iterator[bytes]:
        async def gather() -> list[bytes]:
            return [line async for line in self.courier.export({})]

        yield from asyncio.run(gather())

    def export(self, stick: Path) -> int:
        """Write a stick; gives the number of batches on it."""
        stick.mkdir(exist_ok=True)
        return write_stick(stick, self.lines()).manifest.batches

    def ingest(self, stick: Path) -> list[str]:
        """Bring a stick home; gives the outcomes."""
        receipts = stick / FOLDER / DOWN / ANSWERS
        if not receipts.exists():
            return []
        return [self.hand_over(line)["outcome"] for line in receipts.read_text().splitlines()]

    def hand_over(self, jws: str) -> dict[str, Any]:
        async def gather() -> bytes:
            (answer,) = [line async for line in self.courier.ingest({"jws": jws})]
            return answer

        answer: dict[str, Any] = json.loads(asyncio.run(gather()))
        return answer

    def booked(self) -> dict[str, int]:
        assert queries.broken_books(self.store) == []
        total = queries.totals(self.store)["org/gw01"]
        return {meter: each.energy_milliwh for meter, each in total.meters.items()}

    def used(self) -> dict[str, int]:
        return {meter: (self.counts[meter] - first) * 10_000 for meter, first in self.first.items()}

    @property
    def first(self) -> dict[str, int]:
        return {"reflow-1": 1000, "wave-1": 500}

    def begin(self) -> None:
        self.bench.read(dict(self.counts))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path)
    made.begin()
    return made


@pytest.mark.parametrize("seed", range(4))
def test_a_month_of_sticks(site: Site, seed: int) -> None:
    chance = random.Random(seed)
    out: list[Path] = []  # on their way to the platform
    home: list[Path] = []  # on their way back
    for trip in range(30):
        site.intervals(4, chance)
        out.append(site.folder / f"stick-{trip}")
        site.export(out[-1])
        chance.shuffle(out)
        while out and chance.random() < 0.6:
            stick = out.pop()
            fate = chance.randrange(5)
            if fate == 0:
                continue  # lost on the way
            visit(site.platform, stick)
            if fate == 1:
                visit(site.platform, stick)
            if fate == 2:
                out.append(stick)  # carried a second time, later
            home.append(stick)
        chance.shuffle(home)
        while home and chance.random() < 0.6:
            stick = home.pop()
            site.ingest(stick)
            if chance.random() < 0.2:
                home.append(stick)
    last = site.folder / "last"
    site.export(last)
    visit(site.platform, last)
    assert site.ingest(last)[-1] == "taken"
    assert site.booked() == site.used()
    assert site.bench.journal.backlog().batches == 0
    assert "fork" not in {alarm.kind for alarm in queries.alarms(site.store)}


def test_a_second_export_writes_only_what_is_new(site: Site) -> None:
    stick = site.folder / "stick"
    site.intervals(520, random.Random(1))
    site.export(stick)
    files = {path.name: path.stat().st_ino for path in (stick / FOLDER / UP).iterdir()}
    site.intervals(1, random.Random(2))
    done = write_stick(stick, site.lines())
    again = {path.name: path.stat().st_ino for path in (stick / FOLDER / UP).iterdir()}
    assert {name for name in files if again[name] == files[name]} >= set(sorted(files)[:2])
    assert (done.written, len(done.manifest.parts)) == (2, 4)


def test_a_stick_pulled_out_midway_says_so_and_is_completed_by_the_same_command(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    stick = site.folder / "stick"
    stick.mkdir()
    site.intervals(520, random.Random(1))
    writes = 0

    def pulled(path: Path, data: bytes) -> None:
        nonlocal writes
        writes += 1
        if writes == 2:
            path.with_name(path.name + ".partial").write_bytes(data[:1000])
            raise OSError(5, "Input/output error")
        path.write_bytes(data)

    with monkeypatch.context() as patch:
        patch.setattr("agent.cli.courier._write", pulled)
        with pytest.raises(ConfigError, match="not complete"):
            site.export(stick)
    assert not (stick / FOLDER / UP / MANIFEST).exists()
    (found,) = visit(site.platform, stick)
    assert "broken off" in found.problems[0]
    assert "PROBLEM" in as_lines([found], as_json=False)[1]
    done = write_stick(stick, site.lines())
    assert done.written == len(done.manifest.parts) - 1
    assert visit(site.platform, stick)[0].problems == []
    assert site.booked() == site.used()


def test_an_agent_that_breaks_off_leaves_an_incomplete_stick(site: Site) -> None:
    with pytest.raises(RetryLater, match="same command"):
        write_stick(site.folder, list(site.lines())[:-1])
    with pytest.raises(RetryLater, match="older version"):
        write_stick(site.folder, [b'{"error": "unknown question"}'])


def test_a_damaged_file_on_the_stick_is_named_and_nothing_of_it_counts(site: Site) -> None:
    stick = site.folder / "stick"
    site.intervals(300, random.Random(1))
    site.export(stick)
    part = sorted((stick / FOLDER / UP).glob("*-00000000.jws"))[0]
    part.write_bytes(part.read_bytes()[:-50])
    (found,) = visit(site.platform, stick)
    assert [part.name in problem for problem in found.problems] == [True]
    site.export(stick)
    visit(site.platform, stick)
    assert site.booked() == site.used()


def test_what_comes_home_is_believed_as_from_the_network(site: Site) -> None:
    stick, older = site.folder / "stick", site.folder / "older"
    site.export(older)
    visit(site.platform, older)
    site.intervals(5, random.Random(1))
    site.export(stick)
    visit(site.platform, stick)
    (receipt,) = (stick / FOLDER / DOWN / ANSWERS).read_text().splitlines()
    header, payload, signature = receipt.split(".")
    forged = site.hand_over(f"{header}.{payload}.{signature[::-1]}")
    assert (forged["outcome"], "signature" in forged["reason"]) == ("refused", True)
    assert site.hand_over("rubbish")["outcome"] == "refused"
    assert site.hand_over(receipt)["outcome"] == "taken"
    assert site.hand_over(receipt)["outcome"] == "stale"
    assert site.ingest(older) == ["stale"]


def test_a_receipt_for_another_gateway_is_refused(site: Site, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Site(tmp_path / "other")
    other.begin()
    stick = tmp_path / "stick"
    site.export(stick)
    visit(site.platform, stick)
    (receipt,) = (stick / FOLDER / DOWN / ANSWERS).read_text().splitlines()
    foreign = Identity("org", "gw02", WHO.audience, "0.1.0")
    other.dialogue._identity = foreign
    answer = other.hand_over(receipt)
    assert (answer["outcome"], answer["reason"]) == ("refused", "speaks to org/gw01")


def test_a_journal_that_is_an_old_copy_is_restored_by_stick(site: Site) -> None:
    stick = site.folder / "stick"
    site.intervals(3, random.Random(1))
    backup = site.folder / "backup.db"
    site.bench.journal.close()
    shutil.copy(site.folder / "journal.db", backup)
    site.bench.restart()
    site.intervals(3, random.Random(2))
    site.export(stick)
    visit(site.platform, stick)
    assert site.ingest(stick) == ["taken"]
    site.bench.journal.close()
    shutil.copy(backup, site.folder / "journal.db")
    site.bench.restart()
    site.intervals(2, random.Random(3))
    site.export(stick)
    visit(site.platform, stick)
    assert site.ingest(stick) == ["asking"]
    assert site.export(stick) == 0
    visit(site.platform, stick)
    assert site.ingest(stick) == ["restored"]
    site.intervals(1, random.Random(4))
    site.export(stick)
    visit(site.platform, stick)
    assert site.ingest(stick) == ["taken"]
    assert site.booked() == site.used()


def test_an_answer_to_a_question_that_nobody_asked_restores_nothing(site: Site) -> None:
    stick = site.folder / "stick"
    site.intervals(1, random.Random(1))
    site.export(stick)
    site.bench.journal.close()
    (site.folder / "journal.db").unlink()
    site.bench.restart()
    visit(site.platform, stick)
    site.intervals(1, random.Random(2))
    assert site.ingest(stick) == ["asking"]


def test_a_gateway_that_nobody_knows_enrols_by_stick(site: Site) -> None:
    stick = site.folder / "stick"
    site.store = Store.create(":memory:")
    site.platform = Platform(
        site.store, audience=WHO.audience, signer=PLATFORM_KEY, keys={}, clock=site.bench.clock
    )
    site.export(stick)
    (found,) = visit(site.platform, stick)
    assert "approve" in found.problems[0]
    site.platform.approve("org", "gw01", site.bench.signer.kid)
    assert visit(site.platform, stick)[0].problems == []
    assert site.ingest(stick) == ["taken"]


def test_a_gateway_that_has_read_nothing_yet_can_enrol_by_stick(tmp_path: Path) -> None:
    """It has no map to show, and no batch; who it is can be said all the same."""
    site = Site(tmp_path)
    lines = list(site.lines())
    assert [envelope.typ_of(line) for line in lines[1:-1]] == [envelope.ENROLMENT, envelope.STATUS]
    assert json.loads(lines[-1]) == {"closing": {"batches": 0}}
    site.bench.journal.close()


async def test_something_else_than_an_acknowledgement_is_no_question(site: Site) -> None:
    with pytest.raises(ValueError, match="an acknowledgement is a text"):
        await anext(site.courier.ingest({"jws": 5}))


def test_a_rotation_by_stick(site: Site) -> None:
    stick, bench = site.folder / "stick", site.bench
    site.export(stick)
    visit(site.platform, stick)
    site.ingest(stick)
    generate_key(site.folder / "next.pem")
    bench.following = load_signer(site.folder / "next.pem")
    bench.wire(bench.meters)
    site.connect()
    for _ in range(2):
        site.intervals(3, random.Random(1))
        site.export(stick)
        assert visit(site.platform, stick)[0].messages > 0
        assert site.ingest(stick) == ["taken"]
    assert site.bench.journal.signing_kid() == bench.following.kid
    assert site.booked() == site.used()


@pytest.mark.parametrize("lines", [0, 1])
def test_names_on_the_stick_lead_nowhere_else(site: Site, lines: int) -> None:
    stick = site.folder / "stick"
    site.export(stick)
    manifest = stick / FOLDER / UP / MANIFEST
    said = json.loads(manifest.read_text())
    said["parts"][lines]["name"] = "../../../journal.jws"
    manifest.write_text(json.dumps(said))
    (found,) = visit(site.platform, stick)
    assert "no name of a part" in found.problems[0]


async def test_the_commands_over_the_control_socket(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Loaded:
        control_socket = tmp_path / "control"
        path = tmp_path / "site.toml"

        class plant:
            org, agent = "org", "gw01"

    monkeypatch.setattr("agent.cli.courier.load_site", lambda *_, **__: Loaded)
    Loaded.path.write_text("")
    stick = tmp_path / "usb"
    stick.mkdir()

    async def run(*words: str) -> Any:
        return await asyncio.to_thread(CliRunner().invoke, command, [*words, "--site", str(Loaded.path)])

    socket = ControlSocket(
        Loaded.control_socket, {}, {"courier": site.courier.export, "courier-ingest": site.courier.ingest}
    )
    await socket.open()
    try:
        said = await run("export", str(stick))
        assert said.exit_code == 0, said.output
        assert "1 batches in 2 files" in said.output
        missing = await run("ingest", str(stick))
        assert isinstance(missing.exception, ConfigError)
        visit(site.platform, stick)
        said = await run("ingest", str(stick))
        assert (said.exit_code, "taken" in said.output) == (0, True), said.output
        bad = tmp_path / "bad.jws"
        bad.write_text("a.b.c\n")
        said = await run("ingest", str(bad), "--json")
        assert (said.exit_code, json.loads(said.output)[0]["outcome"]) == (1, "refused")
    finally:
        await socket.close()
