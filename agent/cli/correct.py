"""`metering-agent adjust`, `witness` and `manual`: a person's word on energy that is sealed already.

They ask the running agent. What is checked and kept is in `agent.service.correcting`; here are the options, the exact
reading of numbers, the hash of the evidence and the sentences. Nothing is noted without a confirmation: on a terminal a
question, in a script `--yes`.
"""

import base64
import hashlib
import json
import re
import sys
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import click

from agent.cli.correctwords import CHINESE, ENGLISH
from agent.cli.exits import NO, OK
from agent.cli.options import json_option, language_option, site_option
from agent.cli.running import ask_agent
from agent.metering.quantity import MILLIWH_PER_UNIT, format_kwh

_RUN = re.compile(r"([1-9][0-9]{0,14})\.\.([1-9][0-9]{0,14})")
_RATIO = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?(/[0-9]{1,9}(\.[0-9]{1,9})?)?")
_KWH = re.compile(r"-?[0-9]{1,9}(\.[0-9]{1,6})?")
_READ_AT_ONCE = 1 << 20


class _Ratio(click.ParamType[Fraction]):
    name = "RATIO"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Fraction:
        if isinstance(value, Fraction):
            return value
        upper, _, lower = str(value).partition("/")
        if not _RATIO.fullmatch(str(value)):
            self.fail(f"{value!r} is not an exact factor such as 4/3 or 1.25", param, ctx)
        if Fraction(upper) == 0 or (lower and Fraction(lower) == 0):
            self.fail("a factor of 0 would say that nothing was used; name the energy instead", param, ctx)
        return Fraction(upper) / (Fraction(lower) if lower else 1)


class _Energy(click.ParamType[int]):
    name = "KWH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if not _KWH.fullmatch(str(value)):
            self.fail(f"{value!r} is not an exact energy in kWh; at most six decimals", param, ctx)
        exact = Fraction(str(value)) * MILLIWH_PER_UNIT["kWh"]
        return exact.numerator  # six decimals of a kWh are 0.001 Wh


class _Deltas(click.ParamType[tuple[int, int]]):
    name = "FIRST..LAST"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        found = _RUN.fullmatch(str(value))
        if found is None or int(found[1]) > int(found[2]):
            self.fail(f"{value!r} is not a run of deltas such as 1..44640", param, ctx)
        return int(found[1]), int(found[2])


_BY = click.option("--by", metavar="NAME", help="Who says so; it is in the chain of evidence.")
_YES = click.option("--yes", is_flag=True, help="Confirm without a question.")
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@site_option
@click.argument("meter_id", metavar="[METER]", required=False)
@click.option(
    "--epoch",
    type=click.IntRange(1),
    metavar="NUMBER",
    help="Register epoch of the deltas; to find it: metering-agent trace METER TIME.",
)
@click.option("--deltas", type=_Deltas(), help="First and last number of the deltas, such as 1..44640.")
@click.option("--factor", type=_Ratio(), help="What their energy has to be multiplied by: 200/150, 1.25.")
@click.option("--energy", type=_Energy(), help="What is to be added to their energy, kWh; may be negative.")
@click.option("--bound", type=_Energy(), help="By how much --energy may be wrong at most, kWh.")
@click.option("--reason", help="Why, in a sentence.")
@click.option(
    "--evidence", type=_FILE, help="A photo or protocol; its SHA-256 goes into the chain, keep the file."
)
@_BY
@_YES
@click.option("--list", "list_", is_flag=True, help="Show everything that was stated on this gateway.")
@click.option("--undo", type=int, metavar="ID", help="Take back a statement that no batch tells yet.")
@language_option
@json_option
@click.pass_context
def adjust(
    ctx: click.Context,
    site_file: Path,
    meter_id: str | None,
    epoch: int | None,
    deltas: tuple[int, int] | None,
    factor: Fraction | None,
    energy: int | None,
    bound: int | None,
    reason: str | None,
    evidence: Path | None,
    by: str | None,
    yes: bool,
    list_: bool,
    undo: int | None,
    language: str,
    as_json: bool,
) -> None:
    """State that sealed deltas of METER were wrong: by an exact factor, or by an energy with a bound.

    What was sealed and booked stays as it is; platform and `verify` show raw, adjusted and estimated energy apart. The
    next boundary seals the statement; until then --undo takes it back.

    Exit code 0: noted, or it could be. 1: refused, and why. 75: no agent runs.
    """
    if list_ or undo is not None:
        asked = {"do": "look"} if undo is None else {"do": "undo", "id": undo}
        _end(ctx, ask_agent(site_file, "state", asked), _say(language), as_json, _listed)
    if (factor is None) == (energy is None) or (energy is None) != (bound is None):
        raise click.UsageError("give either --factor, or --energy and --bound")
    if bound is not None and bound < 0:
        raise click.UsageError("--bound cannot be negative")
    given = {"METER": meter_id, "--epoch": epoch, "--deltas": deltas, "--reason": reason, "--by": by}
    _demand(given | {"--evidence": evidence})
    assert deltas is not None
    assert evidence is not None
    said: dict[str, object] = {"meter": meter_id, "epoch": epoch, "n_from": deltas[0], "n_to": deltas[1]}
    if factor is not None:
        said |= {"num": factor.numerator, "den": factor.denominator}
    else:
        said |= {"energy": energy, "bound": bound}
    said |= {"reason": reason, "evidence": hash_of(evidence), "by": by}
    _state(ctx, site_file, "adjust", said, say=_say(language), yes=yes, as_json=as_json)


@click.command()
@site_option
@click.argument("meter_id", metavar="METER")
@click.argument("display_kwh", metavar="KWH")
@click.option("--register", help="Which register the display showed, by its name [the energy register].")
@_BY
@_YES
@language_option
@json_option
@click.pass_context
def witness(
    ctx: click.Context,
    site_file: Path,
    meter_id: str,
    display_kwh: str,
    register: str | None,
    by: str | None,
    yes: bool,
    language: str,
    as_json: bool,
) -> None:
    """State what the display of METER showed: KWH as it was read, digit by digit. It is evidence, never energy.

    Exit code 0: noted, or it could be. 1: refused, and why. 75: no agent runs.
    """
    _demand({"--by": by})
    said: dict[str, object] = {"meter": meter_id, "display_kwh": display_kwh, "by": by}
    if register is not None:
        said["register"] = register
    _state(ctx, site_file, "witness", said, say=_say(language), yes=yes, as_json=as_json)


@click.command()
@site_option
@click.argument("meter_id", metavar="METER")
@click.argument("n", metavar="NUMBER", type=click.IntRange(1))
@click.argument("text", metavar="TEXT")
@click.option(
    "--epoch",
    type=click.IntRange(1),
    metavar="NUMBER",
    required=True,
    help="Register epoch of the delta; to find it: metering-agent trace METER TIME.",
)
@_BY
@_YES
@language_option
@json_option
@click.pass_context
def manual(
    ctx: click.Context,
    site_file: Path,
    meter_id: str,
    n: int,
    text: str,
    epoch: int,
    by: str | None,
    yes: bool,
    language: str,
    as_json: bool,
) -> None:
    """Put a person's word beside one sealed delta of METER: what is known of it that no register says.

    Exit code 0: noted, or it could be. 1: refused, and why. 75: no agent runs.
    """
    _demand({"--by": by})
    said: dict[str, object] = {"meter": meter_id, "epoch": epoch, "n": n, "text": text, "by": by}
    _state(ctx, site_file, "manual", said, say=_say(language), yes=yes, as_json=as_json)


def hash_of(path: Path) -> str:
    """SHA-256 of a file's bytes, base64url without padding, as the chain has it."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_READ_AT_ONCE):
            digest.update(piece)
    return base64.urlsafe_b64encode(digest.digest()).decode("ascii").rstrip("=")


def _demand(given: Mapping[str, object]) -> None:
    missing = [name for name, value in given.items() if value is None or value == ""]
    if missing:
        raise click.UsageError(f"missing: {', '.join(missing)}")


def _say(language: str) -> Mapping[str, str]:
    return CHINESE if language == "zh" else ENGLISH


def _state(
    ctx: click.Context,
    site_file: Path,
    type_: str,
    said: Mapping[str, object],
    *,
    say: Mapping[str, str],
    yes: bool,
    as_json: bool,
) -> None:
    """Look at it, ask whether it is right where nobody has said so, and note it."""
    question = {"type": type_, **said}
    if not yes:
        answer = ask_agent(site_file, "state", {"do": "check", **question})
        on_terminal = sys.stdin.isatty() and not as_json
        if on_terminal and not answer["objections"]:
            click.echo(_described(say, answer))
            yes = click.confirm(say["ask"])
        if not yes:
            _end(ctx, answer, say, as_json, _unnoted)
    _end(ctx, ask_agent(site_file, "state", {"do": "confirm", **question}), say, as_json, _noted)


def _end(
    ctx: click.Context, answer: Mapping[str, Any], say: Mapping[str, str], as_json: bool, text: "Text"
) -> None:
    """Print an answer and leave."""
    if as_json:
        click.echo(json.dumps(answer, ensure_ascii=False))
    elif answer["objections"]:
        for each in answer["objections"]:
            click.echo(say[each["code"]].format_map(each["values"]))
    else:
        click.echo(text(say, answer))
    ctx.exit(NO if answer["objections"] else OK)


Text = Callable[[Mapping[str, str], Mapping[str, Any]], str]
"""Words an answer of the agent, in one language."""


def _noted(say: Mapping[str, str], answer: Mapping[str, Any]) -> str:
    return f"{_described(say, answer)}\n{say['noted'].format(id=answer['statement']['id'])}"


def _unnoted(say: Mapping[str, str], answer: Mapping[str, Any]) -> str:
    return f"{_described(say, answer)}\n{say['unnoted']}"


def _described(say: Mapping[str, str], answer: Mapping[str, Any]) -> str:
    ledger = answer["ledger"]
    lines = [text_of(answer["statement"], say)]
    if ledger is not None:
        lines.append(say["ledger"].format(meter=answer["statement"]["meter"], **ledger))
    return "\n".join(lines)


def _listed(say: Mapping[str, str], answer: Mapping[str, Any]) -> str:
    rows = []
    for each in answer["statements"]:
        told = each["told"]
        place = say["waits"] if told is None else say["place"].format_map(told)
        rows.append(f"{each['id']}  {each['at']}  {place}\n   {text_of(each, say)}")
    return "\n".join(rows) or say["none"]


def text_of(said: Mapping[str, Any], say: Mapping[str, str] = ENGLISH) -> str:
    """A statement, or its event, as a sentence."""
    if said["type"] != "adjust":
        return say[str(said["type"])].format_map(said)
    if "num" in said:
        what = say["factor"].format_map(said)
    else:
        energy, bound = format_kwh(said["energy"]), format_kwh(said["bound"])
        what = say["energy"].format(energy_kwh=energy, bound_kwh=bound)
    return say["adjust"].format(what=what, **said)
