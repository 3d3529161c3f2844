"""What `scan`, `probe`, `read`, `commission` and `meter-setup` say: in one place, so that there may be two languages.

The English sentences are here; `agent.cli.chinese_installer` has the same codes and placeholders in Chinese. What goes
into a log, a profile or JSON stays English, and so do reasons from below (a library, the operating system).
"""

from collections.abc import Mapping

Say = Mapping[str, str]
"""Sentences by code."""

ENGLISH: Say = {
    "nobody": "no meter answered; check its power and the A/B wires (some makers label them the other way round), "
    "and that nothing else masters this line ({seconds} s)",
    "ADDRESS": "ADDRESS",
    "SETTINGS": "SETTINGS",
    "MODEL": "MODEL",
    "SERIAL": "SERIAL",
    "one meter": "1 meter in {seconds} s",
    "meters": "{count} meters in {seconds} s",
    "or": " or ",
    "or others": " or others",
    "unknown": "unknown",
    "shared": "two or more meters have this address; leave one connected and give it another",
    "no profile": "no profile fits; try: metering-agent probe {address}",
    "dlt645": "speaks DL/T 645: read it as it is, or switch it with meter-setup",
    "nothing understood": "# {count} registers can be read, and none of them behaves like a meter's; let the load "
    "change while this runs,\n# or watch for longer: --seconds 900",
    "draft": "# A draft: of {count} registers at address {address} these {understood} are understood.",
    "display": "# The display must show {kwh} kWh now. If it shows ten times more or less,\n# run this again with "
    "--display-kwh. Behind current transformers compare the power too and correct `side`.",
    "coarse": "# Its counter took few steps while it was watched: watch longer (--seconds) before believing this.",
    "less likely": "# Less likely: energy at {place}, {type}, {order}, {kwh} kWh",
    "low first": "low word first",
    "high first": "high word first",
    "REGISTER": "REGISTER",
    "WORDS": "WORDS",
    "VALUE": "VALUE",
    "UNIT": "UNIT",
    "meter": "{meter}: {maker} {model} at address {address} of line {line}",
    "place": "line {line}, address {address} ({meter})",
    "refused": "{place}: {reason}; the meter understands Modbus but is probably no {profile}; check the profile",
    "silent": "{place}: no answer in {tries} tries; {advice}",
    "damaged": "{place}: {reason}; check that no second meter has address {address}, and A/B wires, termination, baud "
    "rate and parity",
    "busy": "{place}: the meter asked for more time in {tries} tries; try again in a minute",
    "check gateway": "check that the gateway knows unit {address}, and power and wires of the meter behind it",
    "check meter": "check the meter's power, the A/B wires, and that it is set to address {address} and {settings} "
    "({origin}); scan finds what it is set to",
    "factory": "it leaves its maker with {settings}",
    "no factory": "its factory setting is not stated",
    "serial settings": "{baud} baud, parity {parity}, {stop}",
    "one stop bit": "1 stop bit",
    "two stop bits": "2 stop bits",
    "found": "meter at {address} of line {line}, {settings}",
    "shows": "  serial number {serial}, energy register {energy}",
    "not readable": "not readable",
    "first": "  first: {advice}",
    "write?": "Write this to the meter?",
    "done": "done: it answers at {address} with {settings}",
    "power off": "the meter confirms, and does not answer there yet: switch its power off and on, then look with scan",
    "old language": "the meter confirms, and speaks its old language still: switch its power off and on, then run scan",
    "done language": "done: it speaks {language} at {address} with {settings}",
    "misordered": "{register}: {shown} cannot be; with {order} it would be {would}. {remedy}",
    "no value": "no value",
    "words swapped": "the words in the other order",
    "bytes swapped": "the bytes of each word in the other order",
    "words and bytes swapped": "words and bytes in the other order",
    "word order": "Correct word_order in the profile, or the setting of word order at the meter.",
    "byte order": "No profile swaps bytes: correct the setting of byte order at the meter or at the gateway before it.",
    "watching": "watching {meters} on {lines} for {seconds} s; leave the load on, and let it be as steady as it can be",
    "agrees": "{meter}: energy and power agree: {rise} kWh counted, {work} kWh by its power in {seconds} s "
    "({percent} %). Hold {power} kW against a clamp meter: a ratio that is wrong for both does not show here.",
    "wrong": "{meter}: energy and power contradict each other: {rise} kWh counted, {work} kWh by its power in "
    "{seconds} s ({percent} %). Suspect: {suspects}. Its kWh must not count before one of the two is corrected.",
    "too little": "{meter}: nothing speaks against it, but {rise} kWh counted and {work} kWh by its power in "
    "{seconds} s are too few of its steps to tell. More load, or --seconds 900.",
    "no load": "{meter}: no load, so nothing can be told. Switch something on and run this again.",
    "feeds back": "{meter}: feeds back, so import and power cannot be compared. Run this again while it does not.",
    "not shown": "{meter}: shows no power that could be compared with its energy. Compare its display over an hour.",
    "percent": "{low} to {high}",
    "percent from": "more than {low}",
    "suspect unit": "kWh taken for Wh or W for kW (`unit` or `per_count` in the profile)",
    "suspect decimal": "the decimal point (`per_count` in the profile)",
    "suspect ct": "CT applied once too often or not at all (`ct_ratio`, or `side` in the profile)",
    "suspect pt": "PT applied once too often or not at all (`pt_ratio`, or `side` in the profile)",
    "suspect ct and pt": "CT and PT applied once too often or not at all (both ratios, or `side` in the profile)",
    "suspect phases": "one of the two is of one phase and the other of three (another register in the profile)",
    "suspect unknown": "none of the usual mistakes; perhaps one of the two is another register than the profile says",
    "and": ", or ",
    "somewhere": "the meter confirms and is silent at its old place; it speaks {language} now: run scan to see where",
}


def in_language(language: str) -> Say:
    """The sentences of `en` or `zh`."""
    if language == "en":
        return ENGLISH
    from agent.cli.chinese_installer import INSTALLER

    return INSTALLER
