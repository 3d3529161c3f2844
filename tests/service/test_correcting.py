"""A person's word on sealed energy, from the desk to the chain: checked, taken back, sealed once."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.cli.trace import text_of
from agent.reporting.event import Event
from agent.service.correcting import Corrections
from agent.service.trace import trace
from tests.service.bench import MINUTE_MS, Bench
from tests.service.test_publish import OwnThread

FACTOR = {"num": 4, "den": 3, "reason": "CT is 200/5, not 150/5", "evidence": "x" * 43, "by": "Li Wei"}


class Desk:
    """A person at the command line, beside an agent that has sealed three deltas of each meter."""

    def __init__(self, path: Path) -> None:
        self.bench = Bench(path)
        for minute in range(4):
            self.bench.read({"reflow-1": 500_000 + minute, "wave-1": 100 + minute})
        self.sit_down()

    def sit_down(self) -> None:
        self.desk = Corrections(self.bench.meters, OwnThread(self.bench.journal), self.bench.clock)

    async def say(self, do: str, **arguments: object) -> dict[str, Any]:
        answer: dict[str, Any] = await self.desk.answer({"do": do, **arguments})
        return answer

    async def adjust(self, *, do: str = "confirm", **other: Any) -> dict[str, Any]:
        said = {"type": "adjust", "meter": "reflow-1", "epoch": 1, "n_from": 1, "n_to": 3, **FACTOR}
        return await self.say(do, **(said | other))

    def boundary(self, counts: dict[str, int]) -> None:
        self.bench.read(counts)

    def told(self) -> list[Event]:
        kinds = {"adjust", "witness", "manual"}
        return [event for _, batch in self.bench.batches() for event in batch.events if event.type in kinds]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def codes(answer: dict[str, Any]) -> list[str]:
    return [each["code"] for each in answer["objections"]]


async def test_an_adjustment_is_sealed_by_the_next_boundary_and_only_once(desk: Desk) -> None:
    answer = await desk.adjust()
    assert answer["done"]
    assert desk.told() == []
    for count in (500_010, 500_020):
        desk.boundary({"reflow-1": count})
    (event,) = desk.told()
    assert dict(event.body) == {"meter": "reflow-1", "epoch": 1, "n_from": 1, "n_to": 3, **FACTOR}
    (kept,) = (await desk.say("look"))["statements"]
    head, batch = next((head, batch) for head, batch in desk.bench.batches() if event in batch.events)
    assert kept["told"] == {"chain": head.chain, "seq": head.seq}
    assert batch.deltas == ()


async def test_a_check_keeps_nothing(desk: Desk) -> None:
    assert not (await desk.adjust(do="check"))["done"]
    desk.boundary({"reflow-1": 500_010})
    assert desk.told() == []


@pytest.mark.parametrize(
    ("other", "code"),
    [
        ({"meter": "nobody"}, "never-read"),
        ({"epoch": 2}, "no-epoch"),
        ({"n_to": 4}, "not-sealed"),
        ({"n_from": 3, "n_to": 2}, "backwards"),
        ({"num": 0}, "malformed"),
        ({"num": -4}, "malformed"),
        ({"den": 0}, "malformed"),
        ({"num": 3, "den": 3}, "factor-one"),
        ({"by": ""}, "malformed"),
        ({"reason": "a\nb"}, "malformed"),
        ({"reason": "x" * 256}, "malformed"),
    ],
)
async def test_what_cannot_be_said_is_refused_with_a_reason(
    desk: Desk, other: dict[str, Any], code: str
) -> None:
    assert codes(await desk.adjust(**other)) == [code]
    desk.boundary({"reflow-1": 500_010})
    assert desk.told() == []


async def test_no_delta_is_adjusted_twice(desk: Desk) -> None:
    assert (await desk.adjust(n_to=2))["done"]
    refused = await desk.adjust(n_from=2)
    assert codes(refused) == ["overlaps"]
    assert (await desk.adjust(n_from=3))["done"]
    assert (await desk.adjust(meter="wave-1"))["done"]


async def test_an_ended_epoch_keeps_its_length(desk: Desk) -> None:
    desk.bench.wire((replace(desk.bench.meters[0], serial="101"), desk.bench.meters[1]))
    for _ in range(4):
        desk.bench.read({"reflow-1": 5}, serials={"reflow-1": "101"})
    head = desk.bench.journal.heads()["reflow-1"]
    assert head.epoch == 2
    assert codes(await desk.adjust(n_to=4)) == ["not-sealed"]
    assert (await desk.adjust())["done"]


async def test_taken_back_before_the_boundary_it_never_was(desk: Desk) -> None:
    id_ = (await desk.adjust())["statement"]["id"]
    assert (await desk.say("undo", id=id_))["done"]
    desk.boundary({"reflow-1": 500_010})
    assert desk.told() == []
    assert codes(await desk.say("undo", id=id_)) == ["no-statement"]
    second = (await desk.adjust())["statement"]["id"]
    desk.boundary({"reflow-1": 500_020})
    assert codes(await desk.say("undo", id=second)) == ["told"]


async def test_trace_names_it(desk: Desk) -> None:
    assert (await desk.adjust(n_from=2))["done"]
    desk.boundary({"reflow-1": 500_010})
    meter = desk.bench.meters[0]
    stated = []
    for n in (1, 2):
        delta = next(d for _, b in desk.bench.batches() for d in b.deltas if (d.meter, d.n) == (meter.id, n))
        found = trace(desk.bench.journal, meter, delta.end_ms)
        stated.append(found["statements"])
        assert found["found"] == "delta"
    assert stated[0] == []
    assert stated[1][0]["told"] is not None  # type: ignore[index]
    assert f"times {FACTOR['num']}/{FACTOR['den']}" in text_of(found, Path("site.toml"))


async def test_it_waits_through_a_restart(desk: Desk) -> None:
    assert (await desk.adjust())["done"]
    desk.bench.restart()
    desk.bench.wire(desk.bench.meters)
    desk.boundary({"reflow-1": 500_010})
    assert [event.type for event in desk.told()] == ["adjust"]


async def test_where_its_batch_was_superseded_it_is_told_again(desk: Desk) -> None:
    assert (await desk.adjust())["done"]
    desk.boundary({"reflow-1": 500_010})
    told = (await desk.say("look"))["statements"][0]["told"]
    before = next(head for head, _ in desk.bench.batches() if head.seq == told["seq"] - 1)
    with desk.bench.journal.transaction():
        desk.bench.journal.supersede_after(before)
    assert (await desk.say("look"))["statements"][0]["told"] is None
    desk.boundary({"reflow-1": 500_020})
    assert len(desk.told()) == 1, "the superseded batch is never sent"
    assert (await desk.say("look"))["statements"][0]["told"]["seq"] > told["seq"]


async def test_displays_and_words(desk: Desk) -> None:
    said = {"type": "witness", "meter": "reflow-1", "display_kwh": "5000.03", "by": "Li Wei"}
    assert codes(await desk.say("confirm", **(said | {"display_kwh": "5e3"}))) == ["malformed"]
    assert codes(await desk.say("confirm", **(said | {"display_kwh": "-5"}))) == ["no-reading"]
    assert codes(await desk.say("confirm", **(said | {"meter": "nobody"}))) == ["unknown-meter"]
    assert (await desk.say("confirm", **said))["ledger"]["register_kwh"] == "5000.030000"
    word = {"type": "manual", "meter": "reflow-1", "epoch": 1, "n": 2, "text": "oven door open", "by": "Li"}
    assert codes(await desk.say("confirm", **(word | {"n": 9}))) == ["not-sealed"]
    assert (await desk.say("confirm", **word))["done"]
    desk.boundary({"reflow-1": 500_010})
    assert [event.type for event in desk.told()] == ["witness", "manual"]


async def test_arguments_of_another_kind(desk: Desk) -> None:
    for arguments in ({"do": "rob"}, {"do": "undo"}, {"do": "confirm", "type": "adjust", "meter": 5}):
        with pytest.raises(ValueError, match=r"wants|is a text"):
            await desk.desk.answer(arguments)
    assert desk.bench.clock.now_ms % MINUTE_MS == 0
