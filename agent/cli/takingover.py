"""Whether the agent is as well with the new site file as it was with the old one; and waiting for it to be.

Well is: it runs with that file, has closed an interval, every meter that was good before is good (one that has another
place may still have to prove that it is the same meter), the new ones are in the ledger; and where broker, certificates
or the address of the web page were changed, they work as they did before. What the change cannot have caused, such as a
broker that is away, is no reason to go back.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.adapters.sitefile import Record
from agent.cli.running import ask_agent
from agent.errors import RetryLater
from agent.settings.changes import Difference

START_S = 180
"""Longest time from the order to stop until the agent answers again: last sweep, farewell, a journal to be checked."""
PAUSE_S = 0.3

_GOOD, _PROVING = ("good",), ("good", "suspect")

Said = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Complaint:
    """One thing that is not well: a stable code, of what, and the values of its sentence."""

    code: str
    subject: str
    values: Mapping[str, str]


def complaints(record: Record, now: Said, change: Difference) -> list[Complaint]:
    """What is not as well as it was.

    Args:
        record: how it was before the change.
        now: what the agent says of itself after it.
        change: what was changed.
    """
    if not now["boundary"]["cuts"]:
        return [Complaint("no-interval", "", {})]
    found = []
    for meter in now["meters"]:
        name, quality = meter["meter"], meter["quality"]
        former = change.former.get(name)
        values = {"quality": quality, "reason": meter["problem"] or quality}
        if name in record.exempt:
            continue
        if former is None:
            if meter["booked"] is None or quality not in _PROVING:
                found.append(Complaint("new-meter", name, values))
        elif former in record.good and quality not in (_PROVING if name in change.moved else _GOOD):
            found.append(Complaint("meter", name, values))
    link, web = now["platform"], now["web"]
    if change.new_link and record.was_connected and not (link["connected"] or link.get("by_stick")):
        found.append(Complaint("broker-away", link["broker"], {"reason": link["problem"] or "-"}))
    if web["problem"] and any(each.code == "web" for each in change.changes):
        found.append(Complaint("web-away", str(web["listen"]), {"reason": web["problem"]}))
    return found


def wait_for(site_file: Path, sha256: str, former_started_ms: int | None, seconds: float) -> Said | None:
    """What the agent says once it runs with that site file, in another process life; None where it does not in time."""
    deadline = time.monotonic() + seconds
    while True:
        said = status_of(site_file)
        if said is not None and said["site"]["sha256"] == sha256 and said["started_ms"] != former_started_ms:
            return said
        if time.monotonic() > deadline:
            return None
        time.sleep(PAUSE_S)


def watch(site_file: Path, judge: Callable[[Said], Sequence[Complaint]], seconds: float) -> list[Complaint]:
    """Wait until nothing is to complain of; gives what is left when the time is over."""
    deadline = time.monotonic() + seconds
    while True:
        said = status_of(site_file)
        left = [Complaint("no-agent", "", {})] if said is None else list(judge(said))
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(PAUSE_S)


def status_of(site_file: Path) -> Said | None:
    """What the agent says of itself; None while it does not answer. Raises ConfigError where this user may not ask."""
    try:
        return ask_agent(site_file, "status")
    except RetryLater:
        return None
