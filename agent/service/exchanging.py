"""What a person tells the agent of a meter: it was exchanged, or it is the one it always was.

Asked over the control socket, beside the running stages. What a person says is looked at first (the ledger, the wire,
the displays have to agree), kept in the journal as an order that can be taken back, and carried out at the next
boundary by `agent.service.deciding`, in the transaction that seals it: the chain has it whole, or not at all, whenever
the power fails. Nothing here books anything.

Also an exchange that was made while the gateway was off is told here, afterwards: the agent holds what it cannot
explain, or has opened an epoch by itself; then the displays are added to it as evidence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from agent.metering.decode import NoValue, decode
from agent.metering.gates import RefusedReading, Rise, admit, compare, power_max_w, rise_max, step_milliwh
from agent.metering.ledger import Head
from agent.metering.memory import Memory, Order
from agent.metering.plant import Meter
from agent.metering.quantity import format_kwh
from agent.reporting.utc import text_of_ms
from agent.service.decisions import Sample
from agent.service.journal import Journal, Storage
from agent.service.poll import LineWorker
from agent.service.ports import Clock
from agent.service.witnessing import display_milliwh, display_step_milliwh

LOOK_S = 3.0
"""So long a meter is given to be read for a person."""
TEXT_MAX = 60
"""Longest name of a person and longest serial number, in characters."""


@dataclass(frozen=True, slots=True)
class Wire:
    """What the meter says now: its register in 0.001 Wh, and its serial number where it can be read."""

    register_milliwh: int
    step_milliwh: Fraction
    serial: str | None
    at_ms: int


@dataclass(frozen=True, slots=True)
class Objection:
    """Why an order is not taken: a stable code and the values of its sentence."""

    code: str
    values: Mapping[str, str]

    def as_json(self) -> dict[str, object]:
        """For the command line, which has the sentences."""
        return {"code": self.code, "values": dict(self.values)}


@dataclass(frozen=True, slots=True)
class Known:
    """What the journal knows of one meter."""

    head: Head | None
    memory: Memory
    order: Order | None


class Exchanges:
    """Answers the question `exchange` on the control socket."""

    def __init__(
        self, meters: Sequence[Meter], workers: Sequence[LineWorker], storage: Storage, clock: Clock
    ) -> None:
        self._meters = {meter.id: meter for meter in meters}
        self._workers = workers
        self._storage = storage
        self._clock = clock

    async def answer(self, arguments: Mapping[str, object]) -> dict[str, object]:
        """Do one thing with one meter: `look`, `note`, `confirm`, `undo` or `same`.

        Returns:
            What is known of it now, and `objections` where nothing was done; `unknown_meter` where there is none of
            that id.

        Raises:
            ValueError: arguments of another kind.
        """
        name, do = arguments.get("meter"), arguments.get("do")
        if not isinstance(name, str) or do not in ("look", "note", "confirm", "undo", "same"):
            raise ValueError("exchange wants a meter, and one of look, note, confirm, undo, same")
        meter = self._meters.get(name)
        if meter is None:
            return {"unknown_meter": name, "meters": list(self._meters)}
        wire = None if do == "undo" else await self._read(meter)
        now_ms = self._clock.wall_ms()
        asked = _asked(meter, do, arguments, now_ms)
        return await self._storage.run(lambda journal: _do(journal, meter, do, asked, wire, now_ms))

    async def _read(self, meter: Meter) -> Wire | None:
        for worker in self._workers:
            sample = await worker.look(meter.id, LOOK_S)
            if sample is not None:
                return wire_of(meter, sample)
        return None


def wire_of(meter: Meter, sample: Sample) -> Wire | None:
    """What a sample says; None where it is no register."""
    counts = decode(meter.profile.energy, sample.words)
    register = admit(meter, counts)
    if isinstance(counts, str | NoValue) or isinstance(register, RefusedReading):
        return None
    return Wire(register, step_milliwh(meter, counts), sample.serial, sample.at_ms)


def _asked(meter: Meter, do: str, arguments: Mapping[str, object], now_ms: int) -> Order:
    said = {name: _text(arguments.get(name), name) for name in ("by", "last_kwh", "first_kwh", "serial")}
    return Order(
        meter.id,
        "same" if do == "same" else "exchange",
        now_ms,
        said["by"] or "",
        said["last_kwh"],
        said["first_kwh"],
        said["serial"],
        confirmed=do == "same" or arguments.get("confirm") is True,
    )


def _text(value: object, name: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > TEXT_MAX or not value.isprintable():
        raise ValueError(f"{name} is a text of at most {TEXT_MAX} characters")
    return value.strip() or None


def _do(
    journal: Journal, meter: Meter, do: str, asked: Order, wire: Wire | None, now_ms: int
) -> dict[str, object]:
    """One piece of work on the journal: look, decide, keep; all or nothing."""
    with journal.transaction():
        known = Known(
            journal.heads().get(meter.id),
            journal.memories().get(meter.id, Memory()),
            journal.orders().get(meter.id),
        )
        order, objections = _decided(meter, do, asked, known, wire, now_ms)
        if not objections and do != "look":
            if order is None:
                journal.drop_order(meter.id)
            else:
                journal.save_order(order)
            known = replace(known, order=order)
    return {
        **_shown(meter, known, wire),
        "done": do != "look" and not objections,
        "objections": [each.as_json() for each in objections],
    }


def _decided(
    meter: Meter, do: str, asked: Order, known: Known, wire: Wire | None, now_ms: int
) -> tuple[Order | None, list[Objection]]:
    """The order to keep, and what speaks against it."""
    match do:
        case "look":
            return known.order, []
        case "undo":
            return None, [] if known.order is not None else [Objection("nothing-noted", {})]
        case "confirm":
            if known.order is None:
                return None, [Objection("nothing-noted", {})]
            asked = replace(known.order, confirmed=True)
    if do == "same":
        return asked, objections_to_same(meter, asked, known, wire)
    kind, objections = objections_to_exchange(meter, asked, known, wire, now_ms)
    serial = asked.serial or (wire.serial if wire is not None else None)
    return replace(asked, kind=kind, serial=serial), objections


# ------------------------------------------------------------------------------------------------------- what must hold


def objections_to_same(meter: Meter, order: Order, known: Known, wire: Wire | None) -> list[Objection]:
    """What speaks against it that the meter is the one it always was."""
    found = _of_words(meter, order)
    head = known.head
    if head is None:
        return [*found, Objection("never-read", {})]
    if known.memory.returned_ms is None:
        found.append(Objection("nothing-to-confirm", {}))
    if wire is not None and wire.serial is not None and head.basis.serial not in (None, wire.serial):
        found.append(Objection("another-serial", {"found": wire.serial, "known": head.basis.serial or ""}))
    return found or _of_first(meter, order, wire)


def objections_to_exchange(
    meter: Meter, order: Order, known: Known, wire: Wire | None, now_ms: int
) -> tuple[str, list[Objection]]:
    """Of what kind the order is, and what speaks against it.

    It is a `witness` where the agent has opened an epoch by itself and the displays fit that one.
    """
    head = known.head
    found = _of_words(meter, order)
    if head is None:
        return "exchange", [*found, Objection("never-read", {})]
    if found:
        return "exchange", found
    if _was_noticed(meter, order, known, wire, head):
        return "witness", _of_first(meter, order, wire)
    found = [*_of_serial(meter, order, head, wire), *_of_last(meter, order, head, now_ms)]
    return "exchange", found or _of_first(meter, order, wire)


def _of_words(meter: Meter, order: Order) -> list[Objection]:
    found = [] if order.by else [Objection("nobody", {})]
    for kwh in (order.last_kwh, order.first_kwh):
        if kwh is not None:
            try:
                display_milliwh(meter, kwh)
            except ValueError:
                found.append(Objection("no-reading", {"text": kwh}))
    return found


def _was_noticed(meter: Meter, order: Order, known: Known, wire: Wire | None, head: Head) -> bool:
    """Whether the agent has seen the exchange and opened the epoch by itself."""
    memory = known.memory
    if memory.opened_by != "agent" or memory.opened_milliwh is None:
        return False
    number = order.serial or (wire.serial if wire is not None else None)
    if number is not None and head.basis.serial is not None and number != head.basis.serial:
        return False
    if order.last_kwh is None:
        return number is not None and number == head.basis.serial
    last = display_milliwh(meter, order.last_kwh) + display_step_milliwh(meter, order.last_kwh)
    return memory.opened_milliwh <= last and (
        number is not None or last < head.register_milliwh or (head.register_milliwh < memory.opened_milliwh)
    )


def _of_serial(meter: Meter, order: Order, head: Head, wire: Wire | None) -> list[Objection]:
    found = wire.serial if wire is not None else None
    if found is not None and found == head.basis.serial:
        return [Objection("old-serial", {"serial": found})]
    if found is not None and order.serial not in (None, found):
        return [Objection("other-serial", {"found": found, "said": order.serial or ""})]
    if found is None and order.serial is None and (meter.serial or head.basis.serial):
        return [Objection("serial-needed", {"known": head.basis.serial or meter.serial or ""})]
    if found is None and order.serial is not None and order.serial == head.basis.serial:
        return [Objection("old-serial", {"serial": order.serial})]
    return []


def _of_last(meter: Meter, order: Order, head: Head, now_ms: int) -> list[Objection]:
    """The old meter's last reading can be neither below what is booked nor beyond what the circuit can have used."""
    if order.last_kwh is None:
        return []
    last = display_milliwh(meter, order.last_kwh)
    seen = max(0, -(-(last + display_step_milliwh(meter, order.last_kwh)) // 1))
    most = rise_max(power_max_w(meter), head.basis.per_count_milliwh, max(0, now_ms - head.at_ms))
    modulus = None if seen >= head.register_milliwh else head.basis.modulus_milliwh  # a rise needs no turn
    move = compare(head.register_milliwh, seen, modulus_milliwh=modulus, rise_max_milliwh=most)
    booked = {"booked": format_kwh(head.register_milliwh), "said": order.last_kwh}
    if not isinstance(move, Rise):
        return [Objection("last-below", booked)]
    rise = max(0, move.delta_milliwh - -(-display_step_milliwh(meter, order.last_kwh) // 1))
    if most is not None and rise > most:
        return [Objection("last-beyond", {**booked, "most": format_kwh(most)})]
    return []


def _of_first(meter: Meter, order: Order, wire: Wire | None) -> list[Objection]:
    """A display cannot be ahead of the register that is read over the wire."""
    if order.first_kwh is None or wire is None:
        return []
    if display_milliwh(meter, order.first_kwh) > wire.register_milliwh + wire.step_milliwh:
        said = {"said": order.first_kwh, "wire": format_kwh(wire.register_milliwh)}
        return [Objection("first-ahead", said)]
    return []


# --------------------------------------------------------------------------------------------------------------- answer


def _shown(meter: Meter, known: Known, wire: Wire | None) -> dict[str, object]:
    head, memory, order = known.head, known.memory, known.order
    return {
        "meter": meter.id,
        "place": f"{meter.line}, address {meter.address}",
        "site_serial": meter.serial,
        "ledger": None
        if head is None
        else {
            "register_kwh": format_kwh(head.register_milliwh),
            "at": text_of_ms(head.at_ms),
            "serial": head.basis.serial,
            "epoch": head.epoch,
        },
        "wire": None
        if wire is None
        else {
            "register_kwh": format_kwh(wire.register_milliwh),
            "serial": wire.serial,
            "at": text_of_ms(wire.at_ms),
        },
        "returned": None if memory.returned_ms is None else text_of_ms(memory.returned_ms),
        "opened": None
        if memory.opened_ms is None
        else {"at": text_of_ms(memory.opened_ms), "by": memory.opened_by},
        "order": None
        if order is None
        else {
            "kind": order.kind,
            "noted": text_of_ms(order.noted_ms),
            "by": order.by,
            "last_kwh": order.last_kwh,
            "first_kwh": order.first_kwh,
            "serial": order.serial,
            "confirmed": order.confirmed,
        },
    }
