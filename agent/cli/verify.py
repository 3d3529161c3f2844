"""`metering-agent verify`: what an auditor types, years later, with nothing but an export and the public keys.

Reads one JWS a line, prints the four verdicts and the totals. The judging is in `agent.reporting.verify`; here are the
files, the keys and the words. Exit 0 only if signature, chain and conservation hold, 1 if not, 2 if it was not asked
properly.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import click

from agent.adapters.keys import PublicKeys, load_public_key, public_key_of_jwk
from agent.cli import corrections
from agent.errors import ConfigError
from agent.metering.quantity import format_kwh
from agent.reporting.adjustment import announced
from agent.reporting.envelope import KeyRing
from agent.reporting.utc import text_of_ms
from agent.reporting.verdict import Finding, Report, Verdict, stretch
from agent.reporting.verify import LINE_BYTES_MAX, Verifier

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_SUBJECT = {
    "signature": "every message is signed by a key that was given",
    "chain": "from the first batch here to the last none is missing, moved or repeated",
    "conservation": "the deltas of every meter add up to its registers",
    "quality": "no gap, no suspect reading, nothing to look at",
}


@click.command()
@click.option(
    "--key",
    "keys",
    type=_FILE,
    multiple=True,
    required=True,
    help="Public key of the agent, PEM; may be repeated.",
)
@click.option(
    "--acknowledgement-key", "ack_keys", type=_FILE, multiple=True, help="Public key of the platform, PEM."
)
@click.option(
    "--descriptor",
    "descriptors",
    type=_FILE,
    multiple=True,
    help="A signed descriptor that FILE does not carry.",
)
@click.option(
    "--revoked",
    multiple=True,
    metavar="KID=CHAIN/SEQ",
    help="A key that the platform revoked: valid for CHAIN up to SEQ; may be repeated.",
)
@click.option(
    "--excerpt", is_flag=True, help="FILE is meant to begin in mid-chain; do not count that as a finding."
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON, energy in 0.001 Wh.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@click.pass_context
def verify(
    context: click.Context,
    keys: tuple[Path, ...],
    ack_keys: tuple[Path, ...],
    descriptors: tuple[Path, ...],
    revoked: tuple[str, ...],
    excerpt: bool,
    as_json: bool,
    file: Path,
) -> None:
    """Prove that no kWh in FILE was lost, doubled or edited.

    FILE is the evidence.jws of an export: one signed message a line, batches in the order of their chain, descriptors
    and acknowledgements anywhere ("-" reads standard input).

    Exit status: 0 if signature, chain and conservation hold, 1 if one does not, 2 if a file or key cannot be used.
    """
    verifier = Verifier(
        _ring(keys, "--key"),
        _ring(ack_keys, "--acknowledgement-key") if ack_keys else None,
        descriptors=[path.read_bytes() for path in descriptors],
        admit=_ring_of_jwk,
        excerpt=excerpt,
        revoked=dict(map(_revocation, revoked)),
        runs=None if str(file) == "-" else announced(line for _, line in _lines(file)),
    )
    for number, line in _lines(file):
        verifier.feed(number, line)
    report = verifier.report()
    click.echo(
        json.dumps(_as_json(report), indent=2, ensure_ascii=False) if as_json else _as_text(str(file), report)
    )
    context.exit(0 if report.ok else 1)


def _ring(paths: tuple[Path, ...], option: str) -> PublicKeys:
    try:
        return PublicKeys(load_public_key(path) for path in paths)
    except ConfigError as error:
        raise click.BadParameter("; ".join(map(str, error.faults)), param_hint=option) from error


def _revocation(text: str) -> tuple[str, tuple[str, int]]:
    kid, _, place = text.partition("=")
    chain, _, seq = place.partition("/")
    if not (kid and chain and seq.isdecimal()):
        raise click.BadParameter(f"{text!r} is not KID=CHAIN/SEQ", param_hint="--revoked")
    return kid, (chain, int(seq))


def _ring_of_jwk(jwk: Mapping[str, object]) -> KeyRing:
    return PublicKeys([public_key_of_jwk(jwk)])


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Numbered lines; of a line that is too long only as much as shows that it is."""
    standard_input = str(path) == "-"
    with nullcontext(sys.stdin.buffer) if standard_input else path.open("rb") as file:
        number = 0
        while line := file.readline(LINE_BYTES_MAX + 2):
            number += 1
            yield number, line
            if not line.endswith(b"\n"):
                _skip_line(file)


def _skip_line(file: BinaryIO) -> None:
    while (rest := file.readline(LINE_BYTES_MAX)) and not rest.endswith(b"\n"):
        pass


# --------------------------------------------------------------------------------------------------- for people


def _as_text(name: str, report: Report) -> str:
    parts = [_heading(name, report), _verdicts(report)]
    if report.batches:
        parts += [_totals(report), *corrections.as_text(report)]
    if not report.quality.ok:
        parts.append(_remarks(report.quality))
    if any(found.text.startswith("unknown-key") for found in report.verdicts["signature"].findings):
        parts.append(
            "Some messages name a key that was not given. Is --key the key of this gateway (metering-agent enrol\n"
            "prints its thumbprint), and was it changed before this stretch? --key may be repeated."
        )
    failed = [name for name, verdict in report.verdicts.items() if not verdict.ok and name != "quality"]
    parts.append("VERIFIED" if report.ok else f"NOT VERIFIED: {', '.join(failed)}")
    return "\n\n".join(parts)


def _heading(name: str, report: Report) -> str:
    rows = [
        (
            "holds",
            f"batches {report.batches}, deltas {report.deltas}, descriptors {report.descriptors}, "
            f"acknowledgements {report.acknowledgements}, repeats {report.duplicates}",
        )
    ]
    if report.org is not None:
        sent = f", sent to {report.aud}" if report.aud else ""
        rows.append(("gateway", f"{report.org}/{report.agent}{sent}"))
    if report.period_ms is not None:
        rows.append(("readings", _span(report.period_ms)))
    if report.right_period_ms is not None:
        rows.append(("rightly", f"{_span(report.right_period_ms)}, as later clock events say"))
    rows += [
        (
            "clock",
            f"chain {each.chain}, seq {each.seq_from} to {each.seq_to}: told {_span(each.told_ms)},"
            f" was {_span(each.right_ms)}, wrong by at most {each.err_ms} ms",
        )
        for each in report.relabelled
    ]
    rows += [("chain", f"{span.chain}, seq {span.seq_first} to {span.seq_last}") for span in report.chains]
    if report.acknowledged is not None:
        head = report.acknowledged
        rows.append(("acknowledged", f"up to chain {head.chain}, seq {head.seq}"))
    if report.chains and not _end_is_proved(report):
        rows.append(("end", "open: no receipt read here names the last batch; ask the platform for its head"))
    if report.acknowledgements_unchecked:
        count = report.acknowledgements_unchecked
        rows.append(("not read", f"{count} acknowledgements; give --acknowledgement-key"))
    if report.holes.count:
        unbounded = f", {report.holes.unbounded} without a bound" if report.holes.unbounded else ""
        bound = format_kwh(report.holes.bound_milliwh)
        rows.append(("epochs ended", f"{report.holes.count}, unmetered at most {bound} kWh{unbounded}"))
    if report.flags:
        rows.append(("flags", ", ".join(f"{flag} {count}" for flag, count in report.flags.items())))
    return "\n".join([name, *(f"  {title:<13} {text}" for title, text in rows)])


def _span(span: tuple[int, int]) -> str:
    return f"{text_of_ms(span[0])} to {text_of_ms(span[1])}"


def _end_is_proved(report: Report) -> bool:
    """Whether the platform signed for the last batch; else later ones can be left out together with their receipts."""
    last, head = report.chains[-1], report.acknowledged
    return head is not None and (head.chain, head.seq) == (last.chain, last.seq_last)


def _verdicts(report: Report) -> str:
    lines = []
    for name, verdict in report.verdicts.items():
        if report.batches or not verdict.ok:
            lines.append(f"{name:<13} {_word(name, verdict):<9} {_meaning(name, verdict)}")
        else:
            lines.append(f"{name:<13} {'-':<9} there is no batch to judge")
        if name != "quality":
            lines += [f"    {text}" for text in _grouped(verdict.findings)] + _more(verdict)
    return "\n".join(lines)


def _grouped(findings: Sequence[Finding]) -> list[str]:
    """Each finding once, with all the lines it was found on: a wrong key is wrong on every line of the file."""
    lines: dict[tuple[str, str, str], list[int]] = {}
    for found in findings:
        lines.setdefault((found.place, found.text, found.span), []).append(found.line)
    return [
        str(Finding(numbers[0], *what))
        if len(numbers) == 1
        else f"lines {_runs(numbers)}, {Finding(0, *what)}"
        for what, numbers in lines.items()
    ]


def _runs(numbers: Sequence[int]) -> str:
    """Ascending numbers in words: "1 to 6, 8, 10 to 12"."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return ", ".join(stretch(*run) for run in runs)


def _more(verdict: Verdict) -> list[str]:
    left = verdict.count - len(verdict.findings)
    return [f"    and {left} more"] if left else []


def _remarks(quality: Verdict) -> str:
    """What is worth a look, the same remark on many meters and times under one heading."""
    groups: dict[str, list[str]] = {}
    for found in sorted(quality.findings, key=lambda found: found.line):
        line = f"line {found.line}" if found.line else ""
        if found.span:
            title, words = found.text, [f"{found.place:<32}", found.span, line]
        elif found.place.startswith("event "):
            title, words = found.place, [found.text, line]
        else:
            title, words = found.text, [found.place, line]
        groups.setdefault(title, []).append("    " + "  ".join(filter(None, words)))
    lines = ["Worth a look (quality decides nothing):"]
    for title, places in groups.items():
        lines += [f"  {title}", *places]
    return "\n".join(lines + _more(quality))


def _word(name: str, verdict: Verdict) -> str:
    if name == "quality":
        return "clean" if verdict.ok else "remarks"
    return "holds" if verdict.ok else "FAILS"


def _meaning(name: str, verdict: Verdict) -> str:
    """What it is that holds, or how much was found."""
    if verdict.ok:
        return _SUBJECT[name]
    found = f"{verdict.count} remark" if name == "quality" else f"{verdict.count} finding"
    found = found if verdict.count == 1 else f"{found}s"
    return f"{found}, listed below" if name == "quality" else found


def _totals(report: Report) -> str:
    meters = [(meter, format_kwh(energy)) for meter, energy in report.by_meter.items()]
    steps = [(step, _kwh(energy)) for step, energy in report.by_step.items()]
    width = max(len(name) for name, _ in [*meters, *steps, ("unassigned", "")])
    columns = max(len(kwh) for _, kwh in [*meters, *steps, ("", _kwh(report.unassigned)), ("", "kWh")])

    def table(title: str, rows: list[tuple[str, str]]) -> str:
        return "\n".join(f"{name:<{width}}  {kwh:>{columns}}" for name, kwh in [(title, "kWh"), *rows])

    return f"{table('meter', meters)}\n\n{table('step', [*steps, ('unassigned', _kwh(report.unassigned))])}"


def _kwh(energy_milliwh: Fraction) -> str:
    """An exact share as kWh, rounded to six places for the eye only."""
    return format_kwh(round(energy_milliwh))


# ------------------------------------------------------------------------------------------------- for programs


def _as_json(report: Report) -> dict[str, object]:
    """The report as JSON; energy by step as text, because shares can be fractions such as 7/3."""
    return {
        "ok": report.ok,
        "verdicts": {name: _verdict_as_json(verdict) for name, verdict in report.verdicts.items()},
        "org": report.org,
        "agent": report.agent,
        "aud": report.aud,
        "batches": report.batches,
        "duplicates": report.duplicates,
        "deltas": report.deltas,
        "descriptors": report.descriptors,
        "acknowledgements": report.acknowledgements,
        "acknowledgements_unchecked": report.acknowledgements_unchecked,
        "balances_unchecked": report.balances_unchecked,
        "acknowledged": None if report.acknowledged is None else report.acknowledged.to_payload(),
        "chains": [
            {"chain": span.chain, "seq_first": span.seq_first, "seq_last": span.seq_last, "hash": span.hash}
            for span in report.chains
        ],
        "period": _times(report.period_ms),
        "right_period": _times(report.right_period_ms),
        "relabelled": [
            {
                "chain": each.chain,
                "seq_from": each.seq_from,
                "seq_to": each.seq_to,
                "told": _times(each.told_ms),
                "right": _times(each.right_ms),
                "err_ms": each.err_ms,
            }
            for each in report.relabelled
        ],
        "energy_unit": "0.001Wh",
        "by_meter": dict(report.by_meter),
        "by_step": {step: str(energy) for step, energy in report.by_step.items()},
        "unassigned": str(report.unassigned),
        "holes": {
            "count": report.holes.count,
            "bound": report.holes.bound_milliwh,
            "unbounded": report.holes.unbounded,
        },
        "flags": dict(report.flags),
        "events": dict(report.events),
        "corrections": corrections.as_json(report.corrections),
    }


def _times(span: tuple[int, int] | None) -> list[str] | None:
    return None if span is None else [text_of_ms(ms) for ms in span]


def _verdict_as_json(verdict: Verdict) -> dict[str, object]:
    findings = [
        {"line": found.line, "place": found.place, "text": found.text, "span": found.span or None}
        for found in verdict.findings
    ]
    return {"ok": verdict.ok, "count": verdict.count, "findings": findings}
