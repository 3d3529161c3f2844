"""`metering-agent trace`: the whole life of one kWh, from the words on the wire to the platform's receipt.

The running agent is asked; where none runs, the journal is opened. What is found and recomputed is in
`agent.service.trace`; here are the question and the words.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from agent.cli.correct import text_of as text_of_statement
from agent.cli.exits import NO, OK
from agent.cli.options import json_option, site_option
from agent.cli.running import NotRunning, ask_agent
from agent.cli.times import Moment
from agent.errors import ConfigError
from agent.reporting.utc import text_of_ms


@click.command()
@site_option
@click.argument("meter_id", metavar="METER")
@click.argument("at_ms", metavar="TIME", type=Moment())
@json_option
@click.pass_context
def trace(ctx: click.Context, site_file: Path, meter_id: str, at_ms: int, as_json: bool) -> None:
    """Show the whole life of the delta of METER that covers TIME: words, counts, gates, batch, receipt.

    TIME is UTC, such as 2026-03-01T08:15, unless it has an offset: 2026-03-01T16:15+08:00. The agent may run meanwhile;
    where none runs, its journal is opened.

    Exit code 0: there is a delta. 1: there is none for this time, and why.
    """
    try:
        found = ask_agent(site_file, "trace", {"meter": meter_id, "at_ms": at_ms})
    except NotRunning:
        found = _of_the_journal(site_file, meter_id, at_ms)
    if "unknown_meter" in found:
        raise _unknown(site_file, meter_id, found)
    click.echo(json.dumps(found) if as_json else text_of(found, site_file))
    ctx.exit(OK if found["found"] == "delta" else NO)


def _of_the_journal(site_file: Path, meter_id: str, at_ms: int) -> dict[str, object]:
    from agent.adapters.journal import open_journal
    from agent.service.trace import trace as trace_in
    from agent.settings.site import load_site

    site = load_site(site_file, any_budget=True)
    meter = next((meter for meter in site.plant.meters if meter.id == meter_id), None)
    if meter is None:
        return {"unknown_meter": meter_id, "meters": [meter.id for meter in site.plant.meters]}
    if not site.journal.path.is_file():
        reason, remedy = (
            "there is no journal, and no agent runs",
            "name the site file of a gateway that has run",
        )
        raise ConfigError.of(site.journal.path, reason, remedy, key="journal.path")
    journal = open_journal(site.journal.path)
    try:
        return trace_in(journal, meter, at_ms)
    finally:
        journal.close()


def _unknown(site_file: Path, meter_id: str, found: Mapping[str, Any]) -> ConfigError:
    from agent.settings.suggest import did_you_mean

    remedy = did_you_mean(meter_id, found["meters"]) or f"there are {', '.join(found['meters'])}"
    return ConfigError.of(site_file, f'there is no meter "{meter_id}"', remedy, key="meters")


# --------------------------------------------------------------------------------------------------------------- text

_NO_DELTA = {
    "nothing": "The journal has no reading of this meter; it was never read, or under another id.",
    "later": "No later reading is booked yet, so the interval of this time is not closed.",
    "purged": "The reading or the batch of this time was removed after its time of keeping; the platform has it.",
}


def text_of(found: Mapping[str, Any], site_file: Path) -> str:
    """The life of a delta as text, one stage below the other."""
    title = f"{found['meter']} at {text_of_ms(found['at_ms'])}"
    match found["found"]:
        case "delta":
            delta = found["delta"]
            parts = [
                f"{title}: {delta['kwh']} kWh from {delta['start']} to {delta['end']}",
                _readings(found),
                _gates(found["gates"]),
                _delta(delta),
                *_stated(found["statements"]),
            ]
        case "opening":
            parts = [f"{title}: no delta.", _opening(found), _readings(found)]
        case kind:
            parts = [
                f"{title}: no delta. {_NO_DELTA[kind]}",
                *([_readings(found)] if kind != "nothing" else []),
            ]
    if found.get("batch") is not None:
        parts += [
            _batch(found["batch"], exact=found["found"] != "purged"),
            _sent(found),
            _kept(found, site_file),
        ]
    return "\n\n".join(parts)


def _block(title: str, rows: list[str]) -> str:
    return "\n".join([title, *(f"  {row}" for row in rows)])


def _readings(found: Mapping[str, Any]) -> str:
    rows = []
    for name in ("before", "after"):
        reading = found.get(name)
        if reading is None:
            rows.append(f"{name}: none")
            continue
        rows.append(f"{name:<7} {text_of_ms(reading['at_ms'])}  {reading['register']} ({reading['place']})")
        if "corrected" in reading:
            rows.append(f"        {_corrected(reading['corrected'])}")
        rows.append(f"        words {' '.join(reading['words'])}  {_counted(reading)}")
        rows.append(
            f"        register {reading['register_kwh']} kWh ({reading['register_milliwh']} x 0.001 Wh)"
        )
    return _block("READ", rows)


def _corrected(right: Mapping[str, Any]) -> str:
    """What the time should have been, as a later batch says."""
    error = f"{(right['err_ms'] + 999) // 1000} s"
    return f"by the clock event of batch {right['said_in']} that was {text_of_ms(right['at_ms'])}, at most {error} off"


def _counted(reading: Mapping[str, Any]) -> str:
    if reading["counts"] is None:
        return str(reading["note"])
    ratio = reading["transformer_ratio"]
    behind = f", CT/PT {ratio} in it" if ratio != "1" else ""
    return f"= {reading['counts']} counts of {reading['per_count_milliwh']} x 0.001 Wh{behind}"


def _gates(gates: list[Mapping[str, Any]]) -> str:
    word = {True: "passed", False: "FAILED", None: "when read"}
    rows = [f"{gate['gate']:<11} {word[gate['passed']]:<12} {gate['text']}" for gate in gates]
    return _block("GATES, once more from the stored words", rows)


def _delta(delta: Mapping[str, Any]) -> str:
    roll = f" + rollover {delta['roll']}" if "roll" in delta else ""
    return _block(
        "DELTA",
        [
            f"{delta['reg_end']} - {delta['reg_start']}{roll} = {delta['delta']} x 0.001 Wh",
            f"epoch {delta['epoch']}, number {delta['n']}, step {delta.get('step', '(shared, or none)')}, "
            f"flags {', '.join(delta['q']) or 'none'}",
        ],
    )


def _stated(statements: list[Mapping[str, Any]]) -> list[str]:
    """What persons stated of it since; the delta itself stays as it was sealed."""
    rows = []
    for each in statements:
        told = each["told"]
        place = "waits for a boundary" if told is None else f"chain {told['chain']}, seq {told['seq']}"
        rows.append(f"{text_of_statement(each)} Statement {each['id']}, {place}")
    return [_block("STATED since; the energy above is as sealed", rows)] if rows else []


def _opening(found: Mapping[str, Any]) -> str:
    reason = found["after"]["opens"]
    if found["event"] is None:
        return f"The reading after it opened an epoch ({reason}); energy counts from its register on."
    event = found["event"]
    bound = f"{event['bound']} x 0.001 Wh" if event.get("bound") is not None else "unknown"
    return (
        f"An epoch ended ({reason}): what was used between the two registers is declared as not metered, "
        f"at most {bound}."
    )


def _batch(batch: Mapping[str, Any], *, exact: bool) -> str:
    rows = [
        f"chain {batch['chain']}, seq {batch['seq']}, sealed {text_of_ms(batch['sealed_ms'])}",
        f"hash {batch['hash']}",
        f"prev {batch['prev']}",
    ]
    if batch["cfg"] is not None:
        rows.append(f"descriptor {batch['cfg']}, clock {batch['clock']['sync']}")
    if batch["superseded"]:
        rows.append("superseded: sealed while platform and journal disagreed; a later chain tells its energy")
    return _block("BATCH" if exact else "BATCH of about that time", rows)


def _sent(found: Mapping[str, Any]) -> str:
    batch, receipt = found["batch"], found.get("receipt")
    if batch["puback_ms"] is not None:
        taken = f"PUBACK of the broker {text_of_ms(batch['puback_ms'])}"
    else:
        taken = "PUBACK of the broker: time not kept (it releases nothing; only the running agent knows the newest)"
    if batch["stored_ms"] is None:
        return _block("SENT", [taken, "not acknowledged by the platform yet; kept until it is"])
    rows = [taken, f"acknowledged by the platform, stored {text_of_ms(batch['stored_ms'])}"]
    if receipt is not None:
        head, stored = receipt["head"], text_of_ms(receipt["stored_ms"])
        rows.append(f"receipt kept: generation {receipt['gen']}, number {receipt['ack_no']} of {stored}")
        if head is not None:
            rows.append(f"covers chain {head['chain']} up to seq {head['seq']}")
    return _block("SENT", rows)


def _kept(found: Mapping[str, Any], site_file: Path) -> str:
    batch = found["batch"]
    if not batch["text_kept"]:
        return _block(
            "KEPT", [f"only the hash, in row {batch['ordinal']} of the journal; the platform has the text"]
        )
    start, end = text_of_ms(batch["sealed_ms"] - 1), text_of_ms(batch["sealed_ms"])
    return _block(
        "KEPT",
        [
            f"in row {batch['ordinal']} of the journal; as evidence:",
            f"metering-agent export --site {site_file} --from {start} --to {end} --out evidence",
        ],
    )
