"""The written rules of the quality flags, and of everything else the gates decide: one table for code, tests and page.

A flag never changes energy; it says how a delta came to be (wire format, section 2). `config/QUALITY.md` is made from
this table, and a test provokes each flag and each outcome of a gate that is named here.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Flag:
    """One quality flag: when a delta has it, and what that means for whoever uses the energy."""

    name: str
    rule: str
    meaning: str
    made_here: bool = True
    """False for a flag of the format that this agent does not set by itself."""


FLAGS = (
    Flag(
        "clock",
        "a reading was made while the time could not be trusted, or the wall clock was set since the one before",
        "energy exact, its times may be wrong; a `clock` event may say by how much",
    ),
    Flag(
        "coarse",
        "unacknowledged data fill half of the disk budget, so that the interval was lengthened",
        "energy exact, its profile is coarser",
    ),
    Flag("comm", "the first try to read the register at this boundary failed", "energy exact"),
    Flag("first", "the first delta of an epoch", "energy exact from the epoch's first register on"),
    Flag(
        "gap",
        "no reading at one or more boundaries inside; not where a meter fed by its own circuit shows what it showed",
        "energy exact, its profile unknown; a `gap` event names the times",
    ),
    Flag(
        "late",
        "set by readers for what came after its day was reported",
        "energy exact",
        made_here=False,
    ),
    Flag(
        "quant",
        "a float register that steps by more than 1 Wh where it stands",
        "energy exact as shown, coarser than 1 Wh",
    ),
    Flag(
        "rate",
        "three readings in a row agree on a rise beyond rated power x time and one step",
        "booked as shown; the rated power in the site file, or the meter, is to be looked at",
    ),
    Flag("roll", "the register went round once; `roll` is its modulus", "energy exact"),
    Flag("sub", "a person's substitute, with its event", "estimated", made_here=False),
    Flag(
        "suspect",
        "a reading inside was refused or held; or the meter came back after more than an hour, or at another address,"
        " without proof of who it is, until three readings fit; or its register stands while power flows; or its"
        " profile rests on one source and nobody has compared the display",
        "booked as shown; to be looked at",
    ),
)


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that can be wrong with a reading, how the gates know it, and what becomes of it."""

    what: str
    known_by: str
    outcome: str
    event: str


RULES = (
    Rule(
        "no number",
        "NaN, infinity, a mark of the profile, wrong digits, below zero, beyond the modulus",
        "refused",
        "refused",
    ),
    Rule(
        "rollover",
        "modulus known; distance to it and wrapped rise within rated power x time; that below one modulus",
        "booked, `roll`",
        "-",
    ),
    Rule(
        "several turns, or no modulus, or no rated power",
        "a fall, one of the above missing; or a rise that leaves room for a whole turn beside it",
        "held",
        "refused, fall; refused, turns",
    ),
    Rule(
        "backward jitter",
        "a fall by at most two steps, not to zero",
        "held until the register is back",
        "refused, jitter",
    ),
    Rule(
        "glitch and back",
        "a fall or jump, then a reading that goes on from the ledger",
        "booked once, `suspect`",
        "refused",
    ),
    Rule(
        "reset",
        "a fall, or a rise that may hide a turn, that three boundaries confirm, each read three times at once, not all"
        " of them zero",
        "new epoch",
        "refused, fall; epoch, reset",
    ),
    Rule(
        "exchange",
        "another serial number at three boundaries; or a person's word (`exchange`)",
        "new epoch",
        "refused, identity; epoch, exchange",
    ),
    Rule(
        "exchange ordered, and not made yet",
        "a person ordered it without a number, and the meter shows the number of before",
        "held until another one answers",
        "refused, exchange",
    ),
    Rule(
        "implausible rise",
        "beyond rated power x time and one step; read again twice at once",
        "booked with `rate` after three, else held",
        "refused, rise",
    ),
    Rule(
        "nothing to compare with",
        "a journal's first reading, the first after the platform's word, or after an hour; read again twice at once",
        "booked after three that agree, else held",
        "refused, first",
    ),
    Rule(
        "torn words",
        "a rise within a sixteenth of one turn of a word; read again twice at once",
        "booked after three, else held",
        "refused, rise",
    ),
    Rule(
        "jump from zero",
        "an implausible rise of a register that stood at zero",
        "new epoch, no energy",
        "epoch, reset",
    ),
    Rule(
        "another address, no serial number",
        "line or address in the site file differ from the last reading's",
        "goes on `suspect`; a jump is a new epoch",
        "epoch, exchange",
    ),
    Rule(
        "changed setting at the meter",
        "a fingerprint register reads otherwise at three boundaries",
        "new epoch",
        "refused, fingerprint; epoch, fingerprint",
    ),
    Rule(
        "another ratio in the site file",
        "exact ratio or modulus differ",
        "closed under the old map, new epoch",
        "epoch, ratio",
    ),
    Rule(
        "another profile",
        "the profile's hash differs and the register does not go on",
        "new epoch",
        "epoch, fingerprint",
    ),
    Rule(
        "two meters exchanged on the bus",
        "each shows the serial number, or the register, of the other; or one without a number shows what can be that of"
        " another which was not read soundly",
        "held; the latter until that one is read, or a person says `same` or `exchange`",
        "refused, identity",
    ),
    Rule(
        "a serial number that is not said any more",
        "the meter has said one and has none to say now, and its register fell, rolled over, rose as it hardly can, or"
        " was not seen for an hour; or so did that of a meter without a number on the same line; also while it is not"
        " read at all, and after a restart",
        "held until the number is said again, or a person says `same` or `exchange`",
        "refused, identity",
    ),
    Rule("wrong serial number", "differs from the site file's", "refused", "refused, serial"),
    Rule(
        "back after an hour",
        "no reading for more than an hour, no proof of identity",
        "booked, `suspect` until three readings fit; named in `status` until confirmed",
        "-",
    ),
    Rule(
        "dark with its circuit",
        '`powered_by = "circuit"`, silence, then the same register',
        "confirmed zero, no gap",
        "-",
    ),
    Rule(
        "stuck register",
        "more than three steps were due by the power shown at three boundaries",
        "zero, `suspect`",
        "refused, stuck",
    ),
)


def page() -> str:
    """The page `config/QUALITY.md`."""
    lines = [
        "# Quality flags, and what becomes of a doubtful reading",
        "",
        "Made from the code by `make docs`; do not edit it here. Flags never change energy. Everything that is refused",
        "or held is an event in the chain: the first at once, the rest of the hour in one with its count.",
        "",
        "## Flags of a delta",
        "",
        "| Flag | Rule | What it means |",
        "| --- | --- | --- |",
        *(f"| `{each.name}` | {each.rule} | {each.meaning} |" for each in FLAGS),
        "",
        "## The gates",
        "",
        "| What | Known by | Outcome | Event, its reason begins with |",
        "| --- | --- | --- | --- |",
        *(f"| {each.what} | {each.known_by} | {each.outcome} | {each.event} |" for each in RULES),
        "",
    ]
    return "\n".join(lines)
