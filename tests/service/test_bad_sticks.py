"""Sticks as they are: full, pulled out, cut off, flipped, mixed up with a neighbour's, with other people's files.

Whatever happens to a stick costs a walk: nothing is booked twice, nothing is purged that the platform has not
acknowledged, nobody's kWh come to another, and a whole stick in the end brings everything.
"""

import errno
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.cli import courier as writing
from agent.errors import ConfigError
from agent.reporting.courier import ANSWERS, DOWN, MANIFEST, UP, folder_name
from simulators.platform import Platform, queries
from simulators.platform import courier as office
from simulators.platform.courier import visit
from tests.service.test_courier import FOLDER, WHO, Site
from tests.simulators.bench import PLATFORM_KEY
from tests.simulators.chains import Gateway, signer

OTHER = folder_name("org", "gw02")


class Neighbour:
    """Another gateway of the same factory, whose stick looks the same."""

    def __init__(self) -> None:
        self.gateway = Gateway(key=signer(5), org="org", agent="gw02")

    def stick(self, top: Path) -> None:
        """Export everything so far, and one interval more."""
        gateway = self.gateway
        gateway.now_ms += 60_000
        deltas = [gateway.delta(meter.meter, 1_000) for meter in gateway.meters]
        events = [] if gateway.line else gateway.carried()
        gateway.seal(replace(gateway.next_batch(deltas, events), aud=WHO.audience))
        top.mkdir(exist_ok=True)
        writing.write_stick(top, self._lines())

    def _lines(self) -> Iterator[bytes]:
        yield (
            b'{"opening": {"org": "org", "agent": "gw02", "aud": "%s", "made_at": "now", "standing": "normal"}}'
            % (WHO.audience.encode())
        )
        yield self.gateway.status(session="courier-gw02").jws
        yield from (sealed.jws for sealed in self.gateway.line)
        yield b'{"closing": {"batches": %d}}' % len(self.gateway.line)

    @property
    def used(self) -> dict[str, int]:
        return {"m1": 1_000 * len(self.gateway.line), "m2": 1_000 * len(self.gateway.line)}


class Hall(Site):
    """Two gateways and one office."""

    def office(self, gen: int | None = None) -> None:
        self.neighbour = Neighbour()
        keys = {
            ("org", "gw01"): [self.bench.signer.public_key],
            ("org", "gw02"): [self.neighbour.gateway.key.public_key],
        }
        self.platform = Platform(
            self.store, audience=WHO.audience, signer=PLATFORM_KEY, keys=keys, clock=self.bench.clock, gen=gen
        )

    def ingest(self, stick: Path) -> list[str]:
        """Bring a stick home; its receipts may be any bytes by now, so that they are read as the command reads them."""
        receipts = stick / FOLDER / DOWN / ANSWERS
        lines = receipts.read_bytes().split(b"\n") if receipts.exists() else []
        texts = [line.strip().decode("ascii", "replace") for line in lines]
        return [self.hand_over(text)["outcome"] for text in texts if text]


@pytest.fixture
def hall(tmp_path: Path) -> Hall:
    made = Hall(tmp_path)
    made.begin()
    return made


Harm = Callable[[Path, random.Random], None]


def files_of(stick: Path) -> list[Path]:
    return sorted(path for path in stick.rglob("*") if path.is_file())


def cut_off(stick: Path, chance: random.Random) -> None:
    """Pulled out while a file was written, on a file system without a journal."""
    path = chance.choice(files_of(stick))
    path.write_bytes(path.read_bytes()[: chance.randrange(path.stat().st_size + 1)])


def flipped(stick: Path, chance: random.Random) -> None:
    path = chance.choice(files_of(stick))
    data = bytearray(path.read_bytes())
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def lost(stick: Path, chance: random.Random) -> None:
    chance.choice(files_of(stick)).unlink()


def swapped(stick: Path, chance: random.Random) -> None:
    """The folders of the two gateways are mixed up by whoever tidied the stick."""
    one, other, aside = stick / FOLDER / UP, stick / OTHER / UP, stick / "aside"
    if one.exists() and other.exists():
        one.rename(aside)
        other.rename(one)
        aside.rename(other)


def crossed(stick: Path, chance: random.Random) -> None:
    """Single files of one gateway land in the folder of the other, under the names of its own."""
    ours, theirs = ([path for path in files_of(stick) if path.parts[-3] == name] for name in (FOLDER, OTHER))
    if ours and theirs:
        shutil.copy(chance.choice(theirs), chance.choice(ours))


def foreign(stick: Path, chance: random.Random) -> None:
    """What other people and other systems leave on a stick."""
    (stick / "autorun.inf").write_text("[autorun]")
    (stick / "System Volume Information").mkdir(exist_ok=True)
    (stick / "kwh+holiday+photos+v1").mkdir(exist_ok=True)
    (stick / "kwh+a+file+v1").write_bytes(b"\xff\xd8")
    for folder in (FOLDER, OTHER):
        if (stick / folder / UP).exists():
            (stick / folder / UP / "._words.jws").write_bytes(b"\x00\x05\x16\x07")
            (stick / folder / UP / "DCIM").mkdir(exist_ok=True)
            (stick / folder / UP / "left.jws.partial").write_bytes(b"half")


HARMS: tuple[Harm, ...] = (cut_off, flipped, lost, swapped, crossed, foreign)


@pytest.mark.parametrize("seed", range(2))
def test_a_month_of_bad_sticks(hall: Hall, seed: int) -> None:
    chance = random.Random(f"bad sticks {seed}")
    for trip in range(12):
        hall.intervals(3, chance)
        stick = hall.folder / f"stick-{trip % 5}"  # the same few sticks, with what was left on them
        hall.export(stick)
        hall.neighbour.stick(stick)
        for harm in chance.sample(HARMS, chance.randrange(3)):
            harm(stick, chance)
        for _ in range(chance.randrange(3)):
            visit(hall.platform, stick)
        if files_of(stick) and chance.random() < 0.3:
            chance.choice((cut_off, flipped))(stick, chance)
        before = hall.bench.journal.backlog().batches
        outcomes = hall.ingest(stick)
        assert set(outcomes) <= {"taken", "stale", "waiting", "refused"}
        if "taken" not in outcomes:
            assert hall.bench.journal.backlog().batches == before, "only a receipt releases anything"
        assert all(
            hall.booked()[meter] <= used for meter, used in hall.used().items() if meter in hall.booked()
        )
        shutil.rmtree(stick / FOLDER, ignore_errors=chance.random() < 0.5)
    whole = hall.folder / "whole"
    hall.export(whole)
    hall.neighbour.stick(whole)
    assert [found.problems for found in visit(hall.platform, whole)] == [[], []]
    assert hall.ingest(whole)[-1] == "taken"
    totals = queries.totals(hall.store)
    assert hall.booked() == hall.used() and hall.bench.journal.backlog().batches == 0
    assert {
        name: each.energy_milliwh for name, each in totals["org/gw02"].meters.items()
    } == hall.neighbour.used
    assert not {alarm.kind for alarm in queries.alarms(hall.store)} & {
        "fork",
        "refused-chain",
        "held",
        "repeat",
    }


def test_a_stick_that_is_full_says_so_and_another_brings_everything(
    hall: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    stick, room = hall.folder / "stick", 40_000
    hall.intervals(60, random.Random(1))
    stick.mkdir()
    written, real = 0, writing._write

    def full(path: Path, data: bytes) -> None:
        nonlocal written
        if written + len(data) > room:
            path.with_name(path.name + ".partial").write_bytes(data[: room - written])
            raise OSError(errno.ENOSPC, "No space left on device")
        written += len(data)
        real(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(writing, "_write", full)
        with pytest.raises(ConfigError, match="No space left on device") as refused:
            hall.export(stick)
    assert "see that it has room" in str(refused.value)
    assert not (stick / FOLDER / UP / MANIFEST).exists()
    (found,) = visit(hall.platform, stick)
    assert "export again" in found.problems[0]
    hall.export(hall.folder / "larger")
    visit(hall.platform, hall.folder / "larger")
    assert hall.ingest(hall.folder / "larger") == ["taken"] and hall.booked() == hall.used()


def test_no_room_for_the_receipts_books_all_the_same_and_the_next_visit_writes_them(
    hall: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    stick = hall.folder / "stick"
    hall.intervals(5, random.Random(1))
    hall.export(stick)

    def full(folder: Path, receipts: list[bytes]) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(office, "_write", full)
        with pytest.raises(OSError, match="No space"):
            visit(hall.platform, stick)
    assert hall.booked() == hall.used() and hall.ingest(stick) == []
    visit(hall.platform, stick)
    assert hall.ingest(stick) == ["taken"] and hall.booked() == hall.used()


def test_what_others_left_in_the_folder_stays(hall: Hall) -> None:
    stick = hall.folder / "stick"
    hall.export(stick)
    foreign(stick, random.Random(1))
    hall.export(stick)
    names = {path.name for path in (stick / FOLDER / UP).iterdir()}
    assert {"._words.jws", "DCIM"} <= names and "left.jws.partial" not in names
    (found, *others) = sorted(visit(hall.platform, stick), key=lambda each: each.folder != FOLDER)
    assert found.problems == [] and all(each.problems for each in others)


def test_a_cut_receipt_is_refused_and_a_whole_one_after_it_taken(hall: Hall) -> None:
    stick = hall.folder / "stick"
    hall.export(stick)
    visit(hall.platform, stick)
    answers = stick / FOLDER / DOWN / ANSWERS
    whole = answers.read_bytes()
    answers.write_bytes(whole[: len(whole) // 2])
    assert hall.ingest(stick) == ["refused"]
    answers.write_bytes(whole[: len(whole) // 2] + b"\n" + whole)
    assert hall.ingest(stick) == ["refused", "taken"]
