"""Answers of the platform as text and JSON, for people and for other programs."""

from collections.abc import Iterator
from fractions import Fraction

from agent.cli import corrections
from agent.metering.quantity import format_kwh
from agent.reporting.utc import text_of_ms
from simulators.platform import queries
from simulators.platform.queries import MeterTotal, Totals
from simulators.platform.store import Store


def totals_json(store: Store) -> dict[str, object]:
    """Totals of every agent; energies exact: an integer of 0.001 Wh, or `"a/b"` where a share is no whole number."""
    return {name: _agent_json(total) for name, total in queries.totals(store).items()}


def _agent_json(total: Totals) -> dict[str, object]:
    return {
        "meters": {meter: _meter_json(each) for meter, each in total.meters.items()},
        "steps": {step: _energy(energy) for step, energy in total.steps.items()},
        "unassigned": _energy(total.unassigned),
        "undescribed": _energy(Fraction(total.undescribed_milliwh)),
        "corrections": corrections.as_json(total.corrections),
    }


def _meter_json(total: MeterTotal) -> dict[str, object]:
    epochs = [
        {
            "epoch": epoch.epoch,
            "opening": epoch.opening,
            "last": epoch.last,
            "roll": epoch.roll_milliwh,
            "milliwh": epoch.energy_milliwh,
            "deltas": epoch.deltas,
            "bridges": epoch.bridges,
        }
        for epoch in total.epochs
    ]
    return {
        "milliwh": total.energy_milliwh,
        "kwh": format_kwh(total.energy_milliwh),
        "deltas": total.deltas,
        "bridges": total.bridges,
        "epochs": epochs,
    }


def _energy(energy: Fraction) -> dict[str, object]:
    exact = energy.numerator if energy.denominator == 1 else f"{energy.numerator}/{energy.denominator}"
    return {"milliwh": exact, "kwh": format_kwh(round(energy))}


def totals_lines(store: Store) -> Iterator[str]:
    """Totals as a table."""
    for name, total in queries.totals(store).items():
        yield name
        for meter, each in total.meters.items():
            bridges = f", {each.bridges} bridges" if each.bridges else ""
            counts = f"{each.deltas} deltas{bridges}, {_epochs(len(each.epochs))}"
            yield f"  meter {meter:<32} {format_kwh(each.energy_milliwh):>18} kWh   {counts}"
        for step, energy in total.steps.items():
            yield f"  step  {step:<32} {format_kwh(round(energy)):>18} kWh"
        yield f"  unassigned {'':<27} {format_kwh(round(total.unassigned)):>18} kWh"
        if total.undescribed_milliwh:
            yield f"  without descriptor {'':<19} {format_kwh(total.undescribed_milliwh):>18} kWh"
        if total.corrections.applied or total.corrections.not_here:
            yield from (f"  {line}" for line in corrections.text_of(total.corrections).splitlines())


def _epochs(count: int) -> str:
    return "1 epoch" if count == 1 else f"{count} epochs"


def gaps_json(store: Store) -> list[dict[str, str]]:
    """What is missing, as objects."""
    return [
        {"agent": gap.agent, "kind": gap.kind, "place": gap.place, "text": gap.text}
        for gap in queries.gaps(store)
    ]


def gaps_lines(store: Store) -> Iterator[str]:
    """What is missing, a line each."""
    found = queries.gaps(store)
    for gap in found:
        yield f"{gap.agent}  {gap.kind:<8} {gap.place}: {gap.text}"
    if not found:
        yield "nothing is missing"


def report_json(store: Store) -> dict[str, object]:
    """Agents, chains, heads, totals, gaps, alarms and broken books."""
    return {
        "agents": {name: _head_json(store, name) for name in queries.agents(store)},
        "chains": [
            {
                "agent": line.agent,
                "chain": line.chain,
                "state": line.state,
                "reason": line.reason,
                "batches": line.booked,
            }
            for line in queries.chains(store)
        ],
        "totals": totals_json(store),
        "gaps": gaps_json(store),
        "alarms": [
            {
                "agent": alarm.agent,
                "kind": alarm.kind,
                "subject": alarm.subject,
                "text": alarm.text,
                "first": text_of_ms(alarm.first_ms),
                "last": text_of_ms(alarm.last_ms),
                "count": alarm.count,
            }
            for alarm in queries.alarms(store)
        ],
        "broken_books": queries.broken_books(store),
    }


def _head_json(store: Store, name: str) -> dict[str, object]:
    org, agent = name.split("/")
    head = queries.head(store, org, agent)
    state = queries.state(store, org, agent)
    return {"head": None if head is None else head.to_payload(), "state": state}


def report_lines(store: Store) -> Iterator[str]:
    """A short summary for a person."""
    for name in queries.agents(store):
        org, agent = name.split("/")
        head = queries.head(store, org, agent)
        said = queries.state(store, org, agent) or "never heard of"
        where = "nothing booked yet" if head is None else f"booked up to {head.chain}/{head.seq}"
        yield f"{name}: {said}, {where}"
        for line in queries.chains(store):
            if line.agent == name:
                yield f"  chain {line.chain} {line.state}, {line.booked} batches ({line.reason})"
    yield from totals_lines(store)
    yield from gaps_lines(store)
    alarms = queries.alarms(store)
    for alarm in alarms:
        text = alarm.text.encode("unicode_escape").decode("ascii")
        yield f"ALARM {alarm.agent} {alarm.kind} {alarm.subject} (x{alarm.count}): {text}"
    broken = queries.broken_books(store)
    yield from (f"BROKEN BOOKS {each}" for each in broken)
    yield f"{len(alarms)} alarms; the books {'DO NOT add up' if broken else 'add up'}"
