"""A meter exchange from the word of a person to the chain: checked, kept, taken back or carried out, once."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from agent.metering.decode import encode
from agent.metering.plant import Meter
from agent.reporting.event import Event
from agent.service.close import Sample
from agent.service.exchanging import Exchanges
from tests.service.bench import MINUTE_MS, Bench, two_meters
from tests.service.test_publish import OwnThread


@dataclass
class OneMeter:
    """The line worker of one meter, as far as a person asks it."""

    bench: Bench
    count: int | None = 500_100
    serial: str | None = "old"

    async def look(self, meter: str, patience_s: float) -> Sample | None:
        """Read it now."""
        if self.count is None or meter != "reflow-1":
            return None
        words = encode(self.bench.meters[0].profile.energy, self.count)
        return Sample(meter, words, self.bench.clock.now_ms, self.serial, retried=False)

    def read(self) -> None:
        """One boundary."""
        assert self.count is not None
        serials = {} if self.serial is None else {"reflow-1": self.serial}
        self.bench.read({"reflow-1": self.count}, serials=serials)


class Desk:
    """A person at the command line."""

    def __init__(self, path: Path, meter: Meter | None = None, serial: str | None = "old") -> None:
        self.bench = Bench(path, (meter or replace(two_meters()[0], serial=None),))
        self.worker = OneMeter(self.bench, serial=serial)
        for _ in range(2):
            self.worker.read()
        self.bench.clock.now_ms += 5 * MINUTE_MS
        self.sit_down()

    def sit_down(self) -> None:
        """Ask the process that runs now."""
        self.exchanges = Exchanges(
            self.bench.meters,
            [self.worker],  # type: ignore[list-item]  # a worker as far as a person knows it
            OwnThread(self.bench.journal),
            self.bench.clock,
        )

    def restart(self) -> None:
        """The agent is killed and started again."""
        self.bench.restart()
        self.bench.wire(self.bench.meters)
        self.sit_down()

    async def say(self, do: str, **arguments: object) -> dict[str, Any]:
        answer: dict[str, Any] = await self.exchanges.answer({"meter": "reflow-1", "do": do, **arguments})
        return answer

    def events(self, kind: str) -> list[Event]:
        return [event for _, batch in self.bench.batches() for event in batch.events if event.type == kind]


def codes(answer: dict[str, Any]) -> list[str]:
    return [each["code"] for each in answer["objections"]]


GOOD = {"last_kwh": "5001.2", "first_kwh": "0.0", "by": "Li Wei"}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.mark.fault("F18")
async def test_an_exchange_is_carried_out_at_the_next_boundary_with_who_and_both_displays(desk: Desk) -> None:
    desk.worker.count, desk.worker.serial = 3, "new"
    noted = await desk.say("note", **GOOD)
    assert noted["done"] and noted["order"]["serial"] == "new" and not noted["order"]["confirmed"]
    desk.worker.read()
    assert desk.events("epoch") == []
    assert (await desk.say("confirm"))["done"]
    desk.restart()
    desk.worker.read()
    epoch = desk.events("epoch")[0].body
    assert (epoch["reason"], epoch["by"]) == ("exchange", "Li Wei")
    assert (epoch["serial_from"], epoch["serial_to"]) == ("old", "new")
    assert (epoch["last"], epoch["first"]) == (5_001_000_000, 30_000)
    assert epoch["bound"] == 200_000 + 100_000 + 30_000
    assert [each.body["display_kwh"] for each in desk.events("witness")] == ["5001.2", "0.0"]
    desk.worker.count = 5
    desk.worker.read()
    assert desk.bench.deltas("reflow-1")[-1] == 20_000
    assert desk.bench.journal.orders() == {} and desk.bench.journal.doubts() == {}
    assert len(desk.events("epoch")) == 1


async def test_it_can_be_taken_back_before_it_is_carried_out_and_not_afterwards(desk: Desk) -> None:
    desk.worker.count, desk.worker.serial = 3, "new"
    await desk.say("note", **GOOD)
    assert (await desk.say("undo"))["done"] and desk.bench.journal.orders() == {}
    assert codes(await desk.say("undo")) == codes(await desk.say("confirm")) == ["nothing-noted"]
    await desk.say("note", confirm=True, **GOOD)
    desk.worker.read()
    assert codes(await desk.say("undo")) == ["nothing-noted"]


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ({"last_kwh": "4000.0"}, "last-below"),
        ({"last_kwh": "9000.0"}, "last-beyond"),
        ({"last_kwh": "5 001"}, "no-reading"),
        ({"last_kwh": "-1"}, "no-reading"),
        ({"first_kwh": "12.0"}, "first-ahead"),
        ({"serial": "third"}, "other-serial"),
        ({"by": " "}, "nobody"),
    ],
)
async def test_what_does_not_fit_is_refused_and_nothing_kept(
    desk: Desk, said: dict[str, str], code: str
) -> None:
    desk.worker.count, desk.worker.serial = 3, "new"
    answer = await desk.say("note", confirm=True, **{**GOOD, **said})
    assert codes(answer) == [code] and not answer["done"]
    assert desk.bench.journal.orders() == {}


async def test_a_meter_that_still_shows_the_old_serial_number_is_not_exchanged(desk: Desk) -> None:
    assert codes(await desk.say("note", **GOOD)) == ["old-serial"]


async def test_a_confirmed_exchange_waits_for_the_new_meter(desk: Desk) -> None:
    """Noted while nothing answers; the old meter is switched on once more by mistake."""
    desk.worker.count = None
    assert (await desk.say("note", confirm=True, serial="new", **GOOD))["done"]
    desk.worker.count = 500_120
    desk.worker.read()
    assert desk.events("epoch") == [] and "reflow-1" in desk.bench.journal.orders()
    desk.worker.count, desk.worker.serial = 1, "new"
    desk.worker.read()
    assert desk.events("epoch")[0].body["reason"] == "exchange"


async def test_a_meter_that_was_never_read_cannot_be_exchanged(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.bench.wire(two_meters())
    desk.sit_down()
    answer = await desk.exchanges.answer({"meter": "wave-1", "do": "note", **GOOD})
    assert answer["ledger"] is None
    assert [each["code"] for each in answer["objections"]] == ["never-read"]  # type: ignore[attr-defined]
    assert "unknown_meter" in await desk.exchanges.answer({"meter": "wave-9", "do": "look"})


@pytest.mark.fault("F19")
async def test_a_nameless_meter_is_exchanged_on_a_persons_word(tmp_path: Path) -> None:
    desk = Desk(tmp_path, serial=None)
    desk.worker.count = 700_000
    await desk.say("note", confirm=True, last_kwh="5001.2", first_kwh="7000.0", by="Li Wei")
    desk.worker.read()
    desk.worker.count = 700_002
    desk.worker.read()
    assert desk.bench.deltas("reflow-1") == [0, 20_000]
    assert [each.body["reason"] for each in desk.events("epoch")] == ["exchange"]


async def test_the_number_a_person_gave_counts_until_the_site_file_says_another(tmp_path: Path) -> None:
    desk = Desk(tmp_path, two_meters()[0], serial=None)
    desk.worker.count = 3
    assert codes(await desk.say("note", **GOOD)) == ["serial-needed"]
    await desk.say("note", confirm=True, serial="777", **GOOD)
    for count in (4, 5, 6):
        desk.worker.count = count
        desk.worker.read()
        desk.restart()
    assert desk.bench.journal.heads()["reflow-1"].basis.serial == "777"
    assert len(desk.events("epoch")) == 1
    desk.bench.wire((replace(desk.bench.meters[0], serial="777"),))
    desk.worker.count = 7
    desk.worker.read()
    assert len(desk.events("epoch")) == 1 and desk.bench.deltas("reflow-1")[-1] == 10_000


async def test_a_readable_meter_is_counted_though_the_site_file_still_has_the_old_number(
    tmp_path: Path,
) -> None:
    desk = Desk(tmp_path, two_meters()[0], serial="100")
    desk.worker.count, desk.worker.serial = 3, "new"
    await desk.say("note", confirm=True, **GOOD)
    for count in (3, 4, 6):
        desk.worker.count = count
        desk.worker.read()
    assert desk.bench.deltas("reflow-1")[-2:] == [10_000, 20_000]


async def test_an_exchange_while_the_gateway_was_off_and_noticed_by_the_agent_gets_its_displays(
    desk: Desk,
) -> None:
    desk.bench.clock.now_ms += 600 * MINUTE_MS
    desk.worker.serial = "new"
    for count in (10, 12, 14):
        desk.worker.count = count
        desk.worker.read()
    assert desk.events("epoch")[0].body["by"] == "agent"
    answer = await desk.say("note", confirm=True, **GOOD)
    assert answer["done"] and answer["order"]["kind"] == "witness"
    desk.worker.read()
    assert len(desk.events("epoch")) == 1
    assert [each.body["by"] for each in desk.events("witness")] == ["Li Wei"] * 2


async def test_an_exchange_while_the_gateway_was_off_told_before_the_agent_is_sure(desk: Desk) -> None:
    desk.bench.clock.now_ms += 600 * MINUTE_MS
    desk.worker.count, desk.worker.serial = 10, "new"
    desk.worker.read()
    assert desk.bench.journal.doubts()
    await desk.say("note", confirm=True, **GOOD)
    desk.worker.read()
    assert [each.body["by"] for each in desk.events("epoch")] == ["Li Wei"]
    assert desk.bench.journal.doubts() == {}


async def test_a_meter_in_doubt_is_confirmed_and_one_that_is_not_has_nothing_to_confirm(
    tmp_path: Path,
) -> None:
    desk = Desk(tmp_path, serial=None)
    assert codes(await desk.say("same", by="Li Wei")) == ["nothing-to-confirm"]
    desk.bench.clock.now_ms += 120 * MINUTE_MS
    desk.worker.count = 500_150
    desk.worker.read()
    assert (await desk.say("look"))["returned"] is not None
    assert (await desk.say("same", by="Li Wei", first_kwh="5001.5"))["done"]
    desk.worker.read()
    assert (await desk.say("look"))["returned"] is None
    assert len(desk.events("witness")) == 1 and desk.events("epoch") == []


@pytest.mark.parametrize("arguments", [{}, {"meter": "reflow-1", "do": "book"}, {"meter": 7, "do": "look"}])
async def test_other_questions_are_refused(desk: Desk, arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="exchange wants"):
        await desk.exchanges.answer(arguments)
    with pytest.raises(ValueError, match="at most"):
        await desk.say("note", by="x" * 61)
