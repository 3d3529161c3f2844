"""What a site file means, for a person who is about to sign off on it.

`summarise` gathers the facts as plain data, which is also what `check --json` prints; `text_of` writes them down.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from agent.metering.gates import power_max_w
from agent.metering.interval import DAY_MS
from agent.metering.plant import Line, Meter, Role, Transport
from agent.service.pressure import RESERVED_BYTES
from agent.service.pressure import forecast as lengthening
from agent.settings.budget import bytes_per_day, days_to_keep, needed_mb
from agent.settings.forecast import LineForecast, forecast, format_s
from agent.settings.grammar import NO_BROKER
from agent.settings.site import Site

PROMISES = {
    "platform": "Nothing is deleted before the platform has signed that it holds it. No kWh is lost or counted twice, "
    "even if the broker, the disk or this gateway fails.",
    "broker": "Weaker promise: the broker's receipt counts, because this platform does not sign. Exact as long as the "
    "journal is never rolled back, lost or copied; after that a person has to confirm the meters' registers.",
}
"""What each mode of acknowledgement is worth, in plain words."""

_NAMES_THAT_MOVE = ("/dev/ttyUSB", "/dev/ttyACM")
_BUSY_PERMILLE = 800
OUTAGE_DAYS = (1, 30, 365)
"""A line in use for more of its time has no room for retries."""
_THIS_MACHINE = ("127.", "localhost:", "[::1]:")


def summarise(site: Site) -> dict[str, Any]:
    """The facts of a site as JSON-ready data; times in ms, energy nowhere."""
    meters = site.plant.meters
    covered = {share.step for meter in meters for share in meter.shares}
    return {
        "org": site.plant.org,
        "agent": site.plant.agent,
        "audience": site.platform.audience,
        "broker": site.platform.broker_url,
        "acknowledgement": site.platform.acknowledgement,
        "promise": PROMISES[site.platform.acknowledgement],
        "interval_ms": site.interval_ms,
        "journal": _journal(site),
        "lines": [_line(line, site.interval_ms) for line in forecast(site.plant)],
        "meters": [_meter(meter) for meter in meters],
        "steps_covered": [step for step in site.catalogue.steps if step in covered],
        "steps_not_covered": [step for step in site.catalogue.steps if step not in covered],
        "notes": _notes(site),
    }


def _journal(site: Site) -> dict[str, Any]:
    meters, interval_ms = len(site.plant.meters), site.interval_ms
    a_day = bytes_per_day(meters, interval_ms)
    return {
        "path": str(site.journal.path),
        "budget_mb": site.journal.budget_mb,
        "needed_mb": needed_mb(meters, interval_ms, site.platform.acknowledgement),
        "days_to_keep": days_to_keep(site.platform.acknowledgement),
        "days_that_fit": site.journal.budget_mb * 1_000_000 // a_day,
        "interval_ms_after_days": _outages(site, a_day),
    }


def _outages(site: Site, bytes_a_day: int) -> dict[str, int]:
    """The interval length that an outage reaches, by its days."""
    budget, interval_ms = site.journal.budget_mb * 1_000_000 - RESERVED_BYTES, site.interval_ms
    per_interval = max(1, bytes_a_day * interval_ms // DAY_MS)
    return {
        str(days): lengthening(
            interval_ms, budget_bytes=budget, interval_bytes=per_interval, outage_ms=days * DAY_MS
        )
        for days in OUTAGE_DAYS
    }


def _line(line: LineForecast, interval_ms: int) -> dict[str, Any]:
    behind = line.behind_gateway_ns
    return {
        "id": line.line.id,
        "transport": line.line.transport.value,
        "place": _place(line.line),
        "meters": line.meters,
        "sweep_ms": _ms(line.sweep_ns),
        "round_ms": _ms(line.round_ns),
        "expected_sweep_ms": _ms(line.cycle_ns),
        "expected_round_ms": _ms(line.round_cycle_ns),
        "busy_permille": line.busy_permille(interval_ms),
        "switches": line.switches,
        "poll_ms": line.line.poll_ms,
        "interval_ms": interval_ms,
        "sweep_behind_gateway_ms": None if behind is None else _ms(behind),
    }


def _ms(time_ns: int) -> int:
    return -(-time_ns // 1_000_000)


def _place(line: Line) -> str:
    serial = f"{line.serial.baud} 8{line.serial.parity[0].upper()}{line.serial.stop_bits}"
    match line.transport:
        case Transport.RS485:
            return f"{line.device}, {serial}"
        case Transport.MODBUS_TCP:
            return f"{line.host}:{line.port}"
        case Transport.RS485_OVER_TCP:
            return f"{line.host}:{line.port}, {serial}"


def _meter(meter: Meter) -> dict[str, Any]:
    return {
        "id": meter.id,
        "line": meter.line,
        "address": meter.address,
        "profile": meter.profile.id,
        "role": meter.role.value,
        "steps": {share.step: str(share.part) for share in meter.shares},
    }


def _notes(site: Site) -> list[str]:
    """What is allowed and still worth a second look."""
    notes = []
    for line in site.plant.lines:
        if not site.plant.meters_on(line.id):
            notes.append(f"line {line.id} has no meters")
        if line.device is not None and line.device.startswith(_NAMES_THAT_MOVE):
            notes.append(
                f"line {line.id}: {line.device} can become another adapter after a restart; "
                "use its name in /dev/serial/by-id or /dev/serial/by-path"
            )
    for meter in site.plant.meters:
        ratio = meter.ct_ratio * meter.pt_ratio
        if ratio != 1 and not meter.profile.energy.secondary:
            notes.append(
                f"meter {meter.id}: its energy register already counts on the primary side, "
                "so ct_ratio and pt_ratio do not change its kWh"
            )
        notes += _profile_notes(site, meter)
    for line_forecast in forecast(site.plant):
        notes += _time_notes(line_forecast, site.interval_ms)
    if site.web_listen is not None and not site.web_listen.startswith(_THIS_MACHINE):
        notes.append(
            f"[web] listens on {site.web_listen}: whoever reaches this address reads the meters' values; "
            "there is no password"
        )
    if site.signing.credential is not None:
        notes.append(
            f'the signing key is the systemd credential "{site.signing.credential}", which only the service can open'
        )
    if site.signing.next_credential is not None:
        notes.append(
            f'the key in the systemd credential "{site.signing.next_credential}" takes over after the next start;'
            " `status` says when it has to become credential. Until then both are needed"
        )
    if site.signing.next_key_file is not None:
        notes.append(
            f"the key in {site.signing.next_key_file.name} takes over after the next start; `status` says when it has "
            "to become key_file. Until then both files are needed"
        )
    return notes


def _profile_notes(site: Site, meter: Meter) -> list[str]:
    """What a meter's profile cannot promise by itself, and what its maker's manual wants known."""
    profile, notes = meter.profile, []
    if not meter.is_proved:
        notes.append(
            f"meter {meter.id}: profile {profile.id} rests on one source only, so its energy is reported as suspect; "
            f"compare two readings with the display (metering-agent read), then add "
            f'display_checked = "DATE by NAME" to it'
        )
    if power_max_w(meter) is None:
        notes.append(
            f"meter {meter.id}: nobody knows how much power its circuit can draw, so an impossible rise is not noticed "
            "and a rollover is held until a person has looked; give it rated_kw"
        )
    if profile.counts_both:
        notes.append(
            f"meter {meter.id}: the counter of a {profile.model} may add import and export; "
            "it is right only on a circuit that never feeds back"
        )
    notes += [f"meter {meter.id}: {note}" for note in profile.notes]
    return notes


def _time_notes(line: LineForecast, interval_ms: int) -> list[str]:
    name, notes = line.line.id, []
    busy = line.busy_permille(interval_ms)
    if line.switches:
        notes.append(
            f"line {name}: its meters have {line.switches + 1} speeds or parities; it changes "
            f"{_count(line.switches, 'time')} in each round, which costs time and is hard on cheap adapters"
        )
    if line.round_ns <= line.line.poll_ms * 1_000_000 and busy > _BUSY_PERMILLE:
        notes.append(
            f"line {name} will be in use for {busy // 10} % of the time; a longer poll leaves room for retries and for "
            "meters that are slow"
        )
    if line.round_ns > line.line.poll_ms * 1_000_000:
        notes.append(
            f"line {name}: one round of all its meters takes at least {format_s(line.round_ns)}, longer than "
            f"poll = {format_length(line.line.poll_ms)}; live values come that much later, no energy is missed"
        )
    behind = line.behind_gateway_ns
    if behind is not None and behind > interval_ms * 1_000_000:
        notes.append(
            f"line {name}: if its meters share one RS485 pair of {line.line.serial.baud} baud behind the gateway, "
            f"one reading takes at least {format_s(behind)}, longer than the interval"
        )
    return notes


# --------------------------------------------------------------------------------------------------------------- text


def _way(broker: str) -> str:
    return "by stick; there is no broker" if broker == NO_BROKER else f"over {broker}"


def text_of(summary: Mapping[str, Any]) -> str:
    """The summary as a page of text."""
    parts = [
        f"The site file is right: {_count(len(summary['meters']), 'meter')} on "
        f"{_count(len(summary['lines']), 'line')}, one signed batch every {format_length(summary['interval_ms'])}.",
        "",
        f"Gateway   {summary['org']}/{summary['agent']}",
        f"Platform  {summary['audience']} {_way(summary['broker'])}",
        f"Promise   {summary['promise']}",
        _journal_text(summary["journal"]),
        "",
        *table_text([_LINE_HEAD, *map(_line_row, summary["lines"])]),
        "",
        *table_text([_METER_HEAD, *map(_meter_row, summary["meters"])]),
        "",
        *_steps_text(summary),
    ]
    if summary["notes"]:
        parts += ["", "Worth a second look:", *(f"  - {note}" for note in summary["notes"])]
    return "\n".join(parts)


_LINE_HEAD = (
    "LINE",
    "WHERE",
    "METERS",
    "READ ALL ONCE",
    "INTERVAL",
    "LIVE ROUND",
    "POLL",
    "EXPECTED",
    "IN USE",
)
_METER_HEAD = ("METER", "LINE", "ADDRESS", "PROFILE", "COUNTS FOR")


def _journal_text(journal: Mapping[str, Any]) -> str:
    lengths = ", ".join(
        f"{format_length(length_ms)} after {days} day{'' if days == '1' else 's'}"
        for days, length_ms in journal["interval_ms_after_days"].items()
    )
    return (
        f"Journal   {journal['path']}, at most {journal['budget_mb']} MB: room for {journal['days_that_fit']} days at "
        f"this interval, {2 * journal['days_to_keep']} are needed\n"
        f"          without a platform the interval is {lengths}"
    )


def _line_row(line: Mapping[str, Any]) -> Sequence[str]:
    return (
        line["id"],
        line["place"],
        str(line["meters"]),
        f">= {format_s(line['sweep_ms'] * 1_000_000)}",
        format_length(line["interval_ms"]),
        f">= {format_s(line['round_ms'] * 1_000_000)}",
        format_length(line["poll_ms"]),
        format_s(line["expected_sweep_ms"] * 1_000_000),
        f"{line['busy_permille'] // 10} %" if line["busy_permille"] <= 1000 else "all the time",
    )


def _meter_row(meter: Mapping[str, Any]) -> Sequence[str]:
    shares = [step if part == "1" else f"{part} {step}" for step, part in meter["steps"].items()]
    counts_for = " + ".join(shares) if meter["role"] == Role.STEP.value else f"({meter['role']})"
    return (meter["id"], meter["line"], str(meter["address"]), meter["profile"], counts_for)


def _steps_text(summary: Mapping[str, Any]) -> list[str]:
    missing = summary["steps_not_covered"]
    total = len(missing) + len(summary["steps_covered"])
    if not missing:
        return [f"All {total} production steps have a meter."]
    return [f"{len(summary['steps_covered'])} of {total} production steps have a meter. Without one:"] + [
        f"  {', '.join(missing[place : place + 4])}" for place in range(0, len(missing), 4)
    ]


def table_text(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns set under one another; plain text, so that it survives a log and a serial console."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def format_length(length_ms: int) -> str:
    """A length of time in the words of the site file: `10s`, `15min`."""
    for unit, unit_ms in (("h", 3_600_000), ("min", 60_000), ("s", 1_000)):
        if length_ms % unit_ms == 0:
            return f"{length_ms // unit_ms}{unit}"
    return f"{length_ms}ms"
