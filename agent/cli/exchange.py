"""`metering-agent exchange`: tell the running agent that a meter was exchanged, or that it is the one it always was.

Guides a person through it on a terminal; a script gives everything as options. What is checked, kept and carried out
is in `agent.service.exchanging`; here are the questions and the words.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from agent.cli.chinese import EXCHANGE as CHINESE
from agent.cli.exits import NO, OK
from agent.cli.options import json_option, language_option, site_option
from agent.cli.running import ask_agent
from agent.errors import ConfigError

ENGLISH: Mapping[str, str] = {
    "ledger": "The ledger of {meter} ({place}) stands at {register_kwh} kWh, read {at}; serial number {serial}.",
    "no ledger": "{meter} ({place}) was never read.",
    "wire": "On the wire it shows {register_kwh} kWh now; serial number {serial}.",
    "no wire": "It gives no reading at the moment.",
    "unknown": "unknown",
    "returned": "It came back {returned} after a long silence or at another address, and cannot say who it is.",
    "order": "Noted {noted} by {by}: last {last}, first {first}, new serial number {serial}.",
    "ask last": "1. Last reading on the display of the OLD meter, kWh (empty if it cannot be read)",
    "ask mounted": "2. Take the old meter off and put the new one on, with the same address. Enter when it is done",
    "ask first": "3. First reading on the display of the NEW meter, kWh (empty if it cannot be read)",
    "ask serial": "4. Serial number of the NEW meter, from its plate",
    "ask by": "5. Your name, for the chain of evidence",
    "ask confirm": "Is this right? It is carried out at the next boundary and cannot be taken back afterwards",
    "noted": "Noted, not confirmed. Confirm: metering-agent exchange {meter} --yes; take back: --undo",
    "confirmed": "Confirmed. The new epoch opens at the next boundary at which the meter is read.",
    "witnessed": "The agent has opened the new epoch by itself; the displays are added to the chain as evidence.",
    "same": "Confirmed: {meter} is the same meter. The next boundary carries it out.",
    "undone": "Taken back; nothing of it was carried out.",
    "nothing-noted": "nothing is noted for this meter; it was carried out already, or never noted",
    "nobody": "nobody says so; give a name: --by",
    "no-reading": "{text!r} is not a reading in kWh such as 1234.5",
    "never-read": "the agent has never read this meter, so there is nothing to exchange; wait for its first reading",
    "nothing-to-confirm": "nothing is in doubt about this meter",
    "another-serial": "the meter says {found}, the ledger is of {known}: it is another one; leave --same out",
    "old-serial": "the meter still shows the old serial number {serial}; put the new one on, with the same address",
    "other-serial": "the meter shows the serial number {found}, not {said}; read its plate again, or check its address",
    "serial-needed": "the old meter's serial number {known} is known and the new one's cannot be read: give --serial",
    "last-below": "{said} kWh is below {booked} kWh, which is booked already; read the old display again"
    " (the secondary side, if the meter counts there)",
    "last-beyond": "{said} kWh is more than the circuit can have used since {booked} kWh were booked ({most} kWh);"
    " read the old display again",
    "first-ahead": "{said} kWh on the display is more than {wire} kWh on the wire; read the new display again",
}


@click.command()
@site_option
@click.argument("meter_id", metavar="METER")
@click.option("--last", "last_kwh", metavar="KWH", help="What the old meter's display showed last.")
@click.option(
    "--first", "first_kwh", metavar="KWH", help="What the display shows of the meter that hangs there now."
)
@click.option("--serial", metavar="NUMBER", help="Serial number of the new meter, where it cannot be read.")
@click.option("--by", metavar="NAME", help="Who says so; it is in the chain of evidence.")
@click.option("--yes", "confirm", is_flag=True, help="Confirm; alone, what was noted before.")
@click.option("--undo", is_flag=True, help="Take back what is noted and not carried out yet.")
@click.option(
    "--same", is_flag=True, help="It is the meter it always was: after a long silence, or a new address."
)
@language_option
@json_option
@click.pass_context
def exchange(
    ctx: click.Context,
    site_file: Path,
    meter_id: str,
    last_kwh: str | None,
    first_kwh: str | None,
    serial: str | None,
    by: str | None,
    confirm: bool,
    undo: bool,
    same: bool,
    language: str,
    as_json: bool,
) -> None:
    """Tell the running agent that METER was exchanged: last and first reading, serial number, who.

    Without options it asks step by step. With --last, --first, --serial or --by it does not ask: the exchange is noted,
    and carried out only once it is confirmed (--yes). It may have been made while the gateway was off. A meter that
    came back after more than an hour and cannot say who it is, is confirmed with --same.

    Exit code 0: done. 1: refused, and why. 75: no agent runs.
    """
    say = Words(CHINESE if language == "zh" else ENGLISH)
    given: dict[str, object] = {"last_kwh": last_kwh, "first_kwh": first_kwh, "serial": serial, "by": by}
    if undo + same + (confirm and not any(given.values())) > 1:
        raise click.UsageError("--undo, --same and --yes exclude one another")
    if undo:
        answer = _ask(site_file, meter_id, {"do": "undo"})
    elif same:
        answer = _ask(site_file, meter_id, {"do": "same", **given})
    elif any(given.values()):
        answer = _ask(site_file, meter_id, {"do": "note", "confirm": confirm, **given})
    elif confirm:
        answer = _ask(site_file, meter_id, {"do": "confirm"})
    elif as_json or not _is_terminal():
        answer = _ask(site_file, meter_id, {"do": "look"})
    else:
        answer = _guide(site_file, meter_id, say)
    if as_json:
        click.echo(json.dumps(answer, ensure_ascii=False))
    else:
        click.echo(say.text_of(answer, undone=undo, same=same))
    ctx.exit(NO if answer["objections"] else OK)


def _is_terminal() -> bool:
    return sys.stdin.isatty()


def _ask(site_file: Path, meter_id: str, question: Mapping[str, object]) -> dict[str, Any]:
    said = {name: value for name, value in question.items() if value not in (None, False)}
    answer = ask_agent(site_file, "exchange", {"meter": meter_id, **said})
    if "unknown_meter" in answer:
        from agent.settings.suggest import did_you_mean

        names = answer["meters"]
        assert isinstance(names, list)
        remedy = did_you_mean(meter_id, names) or f"there are {', '.join(names)}"
        raise ConfigError.of(site_file, f'there is no meter "{meter_id}"', remedy, key="meters")
    return answer


def _guide(site_file: Path, meter_id: str, say: "Words") -> dict[str, Any]:
    """Ask step by step; what was answered is kept by the agent before it is confirmed, so nothing is typed twice."""
    known = _ask(site_file, meter_id, {"do": "look"})
    click.echo(say.state(known))
    if known["ledger"] is None:
        return known
    last = _prompt(say["ask last"])
    click.prompt(say["ask mounted"], default="", show_default=False, prompt_suffix=" ")
    known = _ask(site_file, meter_id, {"do": "look"})
    click.echo(say.state(known))
    first = _prompt(say["ask first"])
    on_wire = (known["wire"] or {}).get("serial")
    serial = on_wire or _prompt(say["ask serial"])
    by = _prompt(say["ask by"])
    said = {"last_kwh": last, "first_kwh": first, "serial": serial, "by": by}
    noted = _ask(site_file, meter_id, {"do": "note", **said})
    if noted["objections"]:
        return noted
    click.echo(say.order(noted["order"]))
    if not click.confirm(say["ask confirm"]):
        return noted
    return _ask(site_file, meter_id, {"do": "confirm"})


def _prompt(text: str) -> str | None:
    value = click.prompt(text, default="", show_default=False)
    return str(value).strip() or None


class Words:
    """What is said, in one language."""

    def __init__(self, sentences: Mapping[str, str]) -> None:
        self._sentences = sentences

    def __getitem__(self, code: str) -> str:
        return self._sentences[code]

    def text_of(self, answer: Mapping[str, Any], *, undone: bool, same: bool) -> str:
        """An answer of the agent: what it knows, and what became of the question."""
        if answer["objections"]:
            return "\n".join(
                f"{answer['meter']}: {self[each['code']].format_map(each['values'])}"
                for each in answer["objections"]
            )
        if not answer["done"]:
            return self.state(answer)
        if undone:
            return self["undone"]
        if same:
            return self["same"].format_map(answer)
        order = answer["order"]
        if not order["confirmed"]:
            return f"{self.order(order)}\n{self['noted'].format_map(answer)}"
        return self["witnessed"] if order["kind"] == "witness" else self["confirmed"]

    def state(self, answer: Mapping[str, Any]) -> str:
        """What is known of a meter."""
        lines = []
        for name in ("ledger", "wire"):
            values = {**answer, **(answer[name] or {})}
            values["serial"] = values.get("serial") or self["unknown"]
            lines.append(self[name if answer[name] else f"no {name}"].format_map(values))
        if answer["returned"]:
            lines.append(self["returned"].format_map(answer))
        if answer["order"]:
            lines.append(self.order(answer["order"]))
        return "\n".join(lines)

    def order(self, order: Mapping[str, Any]) -> str:
        """What was noted."""
        values = {name: value if value is not None else self["unknown"] for name, value in order.items()}
        return self["order"].format_map({**values, "last": values["last_kwh"], "first": values["first_kwh"]})
