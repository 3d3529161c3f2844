"""What a person states of sealed energy: an adjustment, a display that was read, a word on a delta.

Asked over the control socket, beside the running stages, as `agent.service.exchanging` is. A statement is looked at
first (the deltas have to be sealed, no other adjustment may name them), kept in the journal once it is confirmed, and
sealed by the next boundary in a batch of its own. Until then it can be taken back; afterwards it is evidence, like
everything in the chain. Nothing here changes what was sealed or booked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from agent.metering.plant import Meter
from agent.metering.quantity import format_kwh
from agent.reporting.event import Event, adjust_event, manual_event, witness_event
from agent.reporting.utc import text_of_ms
from agent.reporting.wire import WireError
from agent.service.journal import Journal, Storage
from agent.service.ports import Clock
from agent.service.statements import Objection, Statement, objections_to
from agent.service.witnessing import display_milliwh

_DO = ("look", "check", "confirm", "undo")
_TYPES = ("adjust", "witness", "manual")


class Corrections:
    """Answers the question `state` on the control socket."""

    def __init__(self, meters: Sequence[Meter], storage: Storage, clock: Clock) -> None:
        self._meters = {meter.id: meter for meter in meters}
        self._storage = storage
        self._clock = clock

    async def answer(self, arguments: Mapping[str, object]) -> dict[str, object]:
        """Do what is asked.

        `do` is `look` (what was stated so far), `check` (whether this could be), `confirm` (keep it for the next
        boundary) or `undo` (take statement `id` back). `type` says what is stated; the other members are those of its
        event.

        Returns:
            plain values: `objections`, `done`, the `statement` as it would be told, the `ledger` of its meter, and with
            `look` and `undo` all `statements`.

        Raises:
            ValueError: arguments of another kind.
        """
        do = arguments.get("do")
        if do not in _DO:
            raise ValueError("state wants one of look, check, confirm, undo")
        if do == "look":
            return await self._storage.run(_look)
        if do == "undo":
            wanted = arguments.get("id")
            if type(wanted) is not int:
                raise ValueError("undo wants the id of a statement")
            return await self._storage.run(lambda journal: _undo(journal, wanted))
        return await self._state(arguments, keep=do == "confirm")

    async def _state(self, arguments: Mapping[str, object], *, keep: bool) -> dict[str, object]:
        try:
            event = self._event(arguments)
        except WireError as error:
            return _refused([Objection("malformed", {"text": str(error)})])
        objections = self._objections_to_words(event)
        if objections:
            return _refused(objections)
        statement = Statement(event.at_ms, event.type, event.body)
        return await self._storage.run(lambda journal: _keep(journal, statement, keep=keep))

    def _event(self, said: Mapping[str, object]) -> Event:
        """The event as it would be sealed. Raises WireError where no reader would accept it."""
        type_, now_ms = said.get("type"), self._clock.wall_ms()
        if type_ not in _TYPES:
            raise ValueError(f"what is stated is one of {', '.join(_TYPES)}")
        meter, by = _text(said, "meter"), _text(said, "by")
        if type_ == "witness":
            kwh, register = _text(said, "display_kwh"), said.get("register")
            known = self._meters.get(meter)
            name = known.profile.energy.name if known is not None else "energy"
            return witness_event(
                now_ms,
                meter=meter,
                display_kwh=kwh,
                register=register if isinstance(register, str) else name,
                by=by,
            )
        epoch = _integer(said, "epoch")
        if type_ == "manual":
            text, n = _text(said, "text"), _integer(said, "n")
            return manual_event(now_ms, meter=meter, epoch=epoch, n=n, text=text, by=by)
        return adjust_event(
            now_ms,
            meter=meter,
            epoch=epoch,
            n_from=_integer(said, "n_from"),
            n_to=_integer(said, "n_to"),
            reason=_text(said, "reason"),
            evidence=_text(said, "evidence"),
            by=by,
            factor=(_integer(said, "num"), _integer(said, "den")) if "num" in said else None,
            energy_milliwh=_integer(said, "energy") if "energy" in said else None,
            bound_milliwh=_integer(said, "bound") if "energy" in said else None,
        )

    def _objections_to_words(self, event: Event) -> list[Objection]:
        """What speaks against it before anything of the journal is known."""
        body = event.body
        if event.type == "adjust" and "num" in body and body["num"] == body["den"]:
            return [Objection("factor-one", {})]
        if event.type == "adjust" and body.get("energy") == 0:
            return [Objection("energy-zero", {})]
        if event.type == "adjust" and event.integer("n_from") > event.integer("n_to"):
            return [Objection("backwards", {})]
        if event.type == "witness":
            meter = self._meters.get(event.text("meter"))
            if meter is None:
                return [Objection("unknown-meter", {"meter": event.text("meter")})]
            try:
                display_milliwh(meter, event.text("display_kwh"))
            except ValueError:
                return [Objection("no-reading", {"text": event.text("display_kwh")})]
        return []


def _keep(journal: Journal, statement: Statement, *, keep: bool) -> dict[str, object]:
    """One piece of work on the journal: look, decide, keep; all or nothing."""
    with journal.transaction():
        objections = objections_to(journal, statement)
        if keep and not objections:
            statement = replace(statement, id=journal.add_statement(statement))
        head = journal.heads().get(statement.event.text("meter"))
    ledger = None
    if head is not None:
        ledger = {
            "epoch": head.epoch,
            "n": head.n,
            "register_kwh": format_kwh(head.register_milliwh),
            "at": text_of_ms(head.at_ms),
        }
    return {
        "done": keep and not objections,
        "objections": [each.as_json() for each in objections],
        "statement": statement.as_json(),
        "ledger": ledger,
    }


def _look(journal: Journal) -> dict[str, object]:
    found = [each.as_json() for each in journal.statements()]
    return {"done": False, "objections": [], "statements": found}


def _undo(journal: Journal, id: int) -> dict[str, object]:
    """A statement that no batch tells can be taken back; one that is in the chain stays there."""
    with journal.transaction():
        known = next((each for each in journal.statements() if each.id == id), None)
        objections = []
        if known is None:
            objections = [Objection("no-statement", {"id": str(id)})]
        elif known.told is not None:
            objections = [
                Objection("told", {"id": str(id), "chain": known.told[0], "seq": str(known.told[1])})
            ]
        else:
            journal.drop_statement(id)
    return _look(journal) | {
        "done": not objections,
        "objections": [each.as_json() for each in objections],
    }


def _refused(objections: Sequence[Objection]) -> dict[str, object]:
    said = [each.as_json() for each in objections]
    return {"done": False, "objections": said, "statement": None, "ledger": None}


def _text(said: Mapping[str, object], name: str) -> str:
    value = said.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{name} is a text")
    if not value.isprintable():
        raise WireError(name, "holds characters that cannot be printed")
    return value.strip()


def _integer(said: Mapping[str, object], name: str) -> int:
    value = said.get(name)
    if type(value) is not int:
        raise ValueError(f"{name} is an integer")
    return value
