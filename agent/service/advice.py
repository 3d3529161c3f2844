"""What needs attention, why, and what to do about it: questions asked of the values of an overview.

Each problem has a stable code, a gravity, a subject (a line, a meter, a file), the values in its sentences, and two
sentences: what is so, and what to do. The English ones are here; `agent.cli.chinese` has the same codes in Chinese.

    error     kWh wait or resolution is lost until a person acts; `/healthz` answers 503
    warning   it works, but something should be looked at today
    notice    something to plan for

Comes after `overview`; before the command `status`, `/healthz` and the metrics.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.reporting.utc import text_of_ms

ERROR, WARNING, NOTICE = "error", "warning", "notice"
GRAVITIES = (ERROR, WARNING, NOTICE)

SECOND_MS, MINUTE_MS, HOUR_MS = 1_000, 60_000, 3_600_000
CONNECTING_MS = 15 * SECOND_MS
"""A connection may take this long after the start, or after a break, before it is called missing."""
BROKER_AWAY_MS = HOUR_MS
PLATFORM_SILENT_MS = 10 * MINUTE_MS
PLATFORM_SILENT_LONG_MS = 24 * HOUR_MS
STICK_LATE_MS = 31 * 24 * HOUR_MS
"""A stick goes once a month at least."""
STOPPED_MS = 30 * SECOND_MS
"""So much longer than two intervals may the last boundary be ago."""
FREE_BYTES_LEAST, FREE_BYTES_FEW = 20_000_000, 200_000_000
BUSY_PERMILLE = 900
NOISE_PERMILLE, NOISE_REQUESTS = 20, 50
FLOODS = 2
"""So many reads given up before a line that is never silent are a device that sends without end, and no burst."""
"""More than 2 % damaged answers of at least 50 is noise or a wiring fault, and no accident."""
CLOCK_ERR_MS = 2_000
CERTIFICATE_DAYS = ((3, ERROR), (14, WARNING), (30, NOTICE))

SENTENCES: Mapping[str, tuple[str, str]] = {
    "line-down": (
        "line {subject} is down: {reason}",
        "check plug, power and cable of the adapter or gateway {place}; it is opened again by itself",
    ),
    "line-noise": (
        "line {subject}: {percent} % of the answers of late are damaged",
        "look for two meters with one address, swapped or loose A/B wires, and a missing 120 ohm end resistor",
    ),
    "line-babble": (
        "line {subject}: somebody sends without end; {count} reads of late were given up after a second of waiting",
        "take devices off the line one after another until it is silent; a device at a wrong baud rate can do it too",
    ),
    "line-diagnosis": (
        "line {subject}, probably {cause}: {evidence}",
        "ask more closely with the agent stopped: metering-agent doctor {subject} --site SITE",
    ),
    "line-busy": (
        "line {subject} is in use for {percent} % of the time",
        "raise its baud rate, move meters to another line, or give it a longer poll",
    ),
    "meter-silent": (
        "meter {subject} (line {line}, address {address}) does not answer: {reason}",
        "check its power, the A/B wires, address and baud rate; its energy is read when it is back",
    ),
    "meter-late": (
        "meter {subject} (line {line}) was last read {age} ago",
        "check its power and wires; if all meters of the line are late, the line is too slow for the interval",
    ),
    "meter-held": (
        "meter {subject}: its reading of {register} kWh is held back: {reason}",
        "after three boundaries the agent knows a misread from a new epoch; if it stays, compare the meter's display",
    ),
    "meter-rise": (
        "meter {subject}: its reading of {register} kWh is held back: {reason}",
        "if the meter's display agrees, the circuit draws more than rated_kw in the site file says: correct it",
    ),
    "meter-refused": (
        "meter {subject} gives no usable reading: {reason} (words {words})",
        "compare it with the meter's display; check that its profile is the right one: {profile}",
    ),
    "meter-identity": (
        "meter {subject} is another one than the site file says: {reason}",
        "put the right meter back, or put the new serial number into the site file",
    ),
    "meter-suspect": (
        "meter {subject}: its last interval is marked {flags}",
        "compare the meter's display with its load; the energy is booked, the platform shows it as suspect",
    ),
    "meter-ratio": (
        "meter {subject} is set to a {register} of {at_meter}, the site file says {in_site}",
        "the site file's counts: compare both with the plate of the transformer, and correct the one that is wrong",
    ),
    "meter-returned": (
        "meter {subject} came back {since} after a long silence, at another address or with what may be another's"
        " register, and cannot say who it is",
        "look at it, then confirm: metering-agent exchange {subject} --same --by NAME --site SITE",
    ),
    "meter-order": (
        "an exchange of meter {subject} was noted by {by} and is not confirmed",
        "confirm it with: metering-agent exchange {subject} --yes --site SITE, or take it back with --undo",
    ),
    "intervals-stopped": (
        "no interval was closed for {age}",
        "look into the log (journalctl -u metering-agent -p warning); if nothing explains it, restart the agent",
    ),
    "intervals-coarse": (
        "intervals are {length} long at present, because the journal fills with what is not acknowledged",
        "find out why the platform does not acknowledge; energy is exact, its profile is coarser until then",
    ),
    "intervals-skipped": (
        "boundaries were skipped within the last hour ({skipped} since the start)",
        "see in metering-agent check whether the lines are fast enough; energy is exact, its profile is coarser",
    ),
    "journal-full": (
        "an interval could not be written: {reason}",
        "free space on the file system of {path}; the energy waits in the meters and is booked afterwards",
    ),
    "journal-space": (
        "only {free} MB are free beside the journal",
        "free space on the file system of {path}, or move the journal to a larger one",
    ),
    "journal-budget": (
        "the journal has {size} of its {budget} MB",
        "find out why the platform does not acknowledge, or give journal.budget_mb more",
    ),
    "journal-asking": (
        "platform and journal disagree about what was sent last; nothing is sent until the platform has answered",
        "it settles by itself when the platform answers; if it stays, ask the platform's operator",
    ),
    "journal-confirming": (
        "the journal may be an old copy under a changed site file; nothing is sealed until the platform has answered",
        "check the connection to the broker; if it stays, ask the platform's operator",
    ),
    "broker-away": (
        "no connection to the broker {broker} for {age}: {reason}",
        "check network, address and certificates; nothing is lost, {kwh} kWh wait in the journal",
    ),
    "broker-refuses": (
        "the broker refuses our messages: {reason}",
        "ask the broker's operator to let this gateway publish below its own topics",
    ),
    "platform-silent": (
        "the platform has not acknowledged what was sealed {age} ago ({kwh} kWh in {batches} batches)",
        "ask the platform's operator whether it receives this gateway; nothing is deleted meanwhile",
    ),
    "stick-waits": (
        "no receipt has come back: what was sealed {age} ago still waits ({kwh} kWh in {batches} batches)",
        "metering-agent courier export, carry the stick to the platform and back, courier ingest; nothing is deleted"
        " meanwhile",
    ),
    "platform-forged": (
        "messages to this gateway were not genuine ({rejected} since the start)",
        "compare acknowledgement_keys with the platform's key, and ask who may write to our topic at the broker",
    ),
    "clock-unknown": (
        "the time of this gateway cannot be trusted",
        "give it a time server (timedatectl, chronyc sources); energy is exact, its intervals are marked",
    ),
    "clock-error": (
        "the time of this gateway may be wrong by {seconds} s",
        "check that its time server can be reached (timedatectl, chronyc sources)",
    ),
    "certificate-ends": (
        "the {role} certificate {subject} ends in {days} days",
        "ask the platform's operator for a new one now",
    ),
    "certificate-ended": (
        "the {role} certificate {subject} has ended",
        "ask the platform's operator for a new one; until then batches wait in the journal",
    ),
    "certificate-early": (
        "the {role} certificate {subject} is not valid yet",
        "check the time of this gateway",
    ),
    "certificate-unreadable": (
        "the {role} certificate {subject} {reason}",
        "put the file right; without it there is no new connection to the broker",
    ),
    "key-rotation-due": (
        "signing key {next} is to take over from {kid}",
        "nothing to do: that happens with one of the next intervals, once the platform has answered",
    ),
    "key-rotation-sealed": (
        "signing key {kid} has taken over from {next}; the platform has not acknowledged that yet",
        "leave key_file and next_key_file as they are until it has",
    ),
    "key-rotation-done": (
        "signing key {kid} is in force and the platform knows it",
        "let key_file name the file of next_key_file, leave next_key_file out, and restart",
    ),
    "key-rotation-over": (
        "next_key_file names key {next}, which has ended",
        "leave next_key_file out, and restart",
    ),
    "web-closed": (
        "metrics and health are not served at {subject}: {reason}",
        "find the program that has the port (ss -ltnp), or give [web] listen another one; metering goes on",
    ),
    "apply-running": (
        "a change of {subject} is being applied at this moment",
        "wait for the command that does it",
    ),
    "apply-unfinished": (
        "an apply was interrupted; {subject} is the {which} text of it, and nobody has looked whether all is well",
        "go on by giving that apply again, or go back: metering-agent apply --undo --site {subject}",
    ),
    "site-changed": (
        "the site file {subject} was changed after the agent was started",
        "run metering-agent check, then restart the agent, so that the change takes effect",
    ),
}
"""What is so, and what to do, by code."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that needs attention."""

    code: str
    gravity: str
    subject: str
    values: Mapping[str, str] = field(default_factory=dict)
    remedy: str | None = None
    """A better remedy than the general one of its code, where the one who failed knew it; English."""

    def sentences(self, words: Mapping[str, tuple[str, str]] = SENTENCES) -> tuple[str, str]:
        """What is so, and what to do about it."""
        what, remedy = words[self.code]
        if self.remedy is not None and words is SENTENCES:
            return what.format_map({**self.values, "subject": self.subject}), self.remedy
        values = {**self.values, "subject": self.subject}
        return what.format_map(values), remedy.format_map(values)

    def as_json(self) -> dict[str, object]:
        """For programs; `text` and `remedy` in English."""
        text, remedy = self.sentences()
        return {
            "code": self.code,
            "gravity": self.gravity,
            "subject": self.subject,
            "values": dict(self.values),
            "text": text,
            "remedy": remedy,
            "own_remedy": self.remedy,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Problem":
        """Read it back, for another language."""
        return cls(
            value["code"], value["gravity"], value["subject"], value["values"], value.get("own_remedy")
        )


def advise(said: Mapping[str, Any]) -> list[Problem]:
    """Everything in an overview that needs attention, the gravest first, each once."""
    found = [
        *_of_intervals(said),
        *_of_the_journal(said["journal"]),
        *(problem for line in said["lines"] for problem in advise_line(line)),
        *(problem for meter in said["meters"] for problem in _of_a_meter(meter)),
        *(problem for meter in said["meters"] for problem in _of_what_a_person_has_to_say(meter)),
        *_of_the_platform(said),
        *_of_the_clock(said["clock"]),
        *(problem for entry in said["certificates"] for problem in _of_a_certificate(entry, said["at_ms"])),
        *_of_the_web(said["web"]),
        *_of_the_key(said["signing_key"]),
    ]
    return sorted(found, key=lambda problem: GRAVITIES.index(problem.gravity))


def _of_intervals(said: Mapping[str, Any]) -> Iterator[Problem]:
    boundary, patience_ms = said["boundary"], 2 * said["boundary"]["length_ms"] + STOPPED_MS
    age_ms = said["uptime_ms"] if boundary["age_ms"] is None else boundary["age_ms"]
    if boundary["problem"] is not None:
        yield Problem(
            "journal-full", ERROR, "journal", {"reason": boundary["problem"], "path": said["journal"]["path"]}
        )
    elif min(age_ms, said["uptime_ms"]) > patience_ms and said["journal"]["standing"] != "confirming":
        yield Problem("intervals-stopped", ERROR, "intervals", {"age": format_age(age_ms)})
    if boundary["skipped_recently"]:
        yield Problem("intervals-skipped", WARNING, "intervals", {"skipped": str(boundary["skipped"])})
    if boundary["length_ms"] > said["interval_ms"]:
        yield Problem("intervals-coarse", WARNING, "intervals", {"length": format_age(boundary["length_ms"])})


def _of_the_journal(journal: Mapping[str, Any]) -> Iterator[Problem]:
    if journal["standing"] == "asking":
        yield Problem("journal-asking", WARNING, "journal")
    if journal["standing"] == "confirming":
        yield Problem("journal-confirming", ERROR, "journal")
    free = journal["free_bytes"]
    if free is not None and free < FREE_BYTES_FEW:
        gravity = ERROR if free < FREE_BYTES_LEAST else WARNING
        yield Problem("journal-space", gravity, "journal", {"free": _mb(free), "path": journal["path"]})
    if 10 * journal["bytes"] > 9 * journal["budget_bytes"]:
        values = {"size": _mb(journal["bytes"]), "budget": _mb(journal["budget_bytes"])}
        yield Problem("journal-budget", WARNING, "journal", values)


def advise_line(line: Mapping[str, Any]) -> Iterator[Problem]:
    """What of one line needs attention."""
    recent = line["recent"]
    if not line["open"]:
        if line["problem"] is not None:
            reason, remedy = taken_apart(line["problem"], f"line {line['line']}")
            yield Problem(
                "line-down", ERROR, line["line"], {"reason": reason, "place": line["place"]}, remedy
            )
        return
    if line.get("floods", 0) >= FLOODS:
        yield Problem("line-babble", WARNING, line["line"], {"count": str(line["floods"])})
    diagnoses = line.get("diagnoses", ())
    for found in diagnoses:
        values = {"cause": found["cause"], "evidence": found["evidence"]}
        yield Problem("line-diagnosis", WARNING, line["line"], values, found["remedy"])
    noisy = not diagnoses and 1000 * recent["damaged"] > NOISE_PERMILLE * recent["requests"]
    if noisy and recent["requests"] >= NOISE_REQUESTS:
        percent = str(100 * recent["damaged"] // recent["requests"])
        yield Problem("line-noise", WARNING, line["line"], {"percent": percent})
    if recent["busy_permille"] > BUSY_PERMILLE and recent["for_ms"] >= MINUTE_MS:
        yield Problem("line-busy", WARNING, line["line"], {"percent": str(recent["busy_permille"] // 10)})


def _of_a_meter(meter: Mapping[str, Any]) -> Iterator[Problem]:
    """At most one problem of each meter; of the meters of a line that is down none, because the line has it."""
    kept_out: Mapping[str, Any] = meter["not_booked"] or {}
    match meter["quality"]:
        case "silent":
            reason, remedy = taken_apart(meter["problem"] or "it was not read since the start")
            values = {"line": meter["line"], "address": str(meter["address"]), "reason": reason}
            yield Problem("meter-silent", WARNING, meter["meter"], values, remedy)
        case "late":
            values = {"line": meter["line"], "age": format_age(meter["age_ms"])}
            yield Problem("meter-late", WARNING, meter["meter"], values)
        case "held":
            values = {"reason": kept_out["reason"], "register": kept_out["register_kwh"] or "?"}
            code = "meter-rise" if kept_out["reason"].startswith("rise") else "meter-held"
            yield Problem(code, WARNING, meter["meter"], values)
        case "refused":
            values = {
                "reason": kept_out["reason"],
                "words": " ".join(kept_out["words"]),
                "profile": meter["profile"],
            }
            yield Problem("meter-refused", WARNING, meter["meter"], values)
        case "identity":
            yield Problem("meter-identity", WARNING, meter["meter"], {"reason": kept_out["reason"]})
        case "suspect":
            yield Problem("meter-suspect", WARNING, meter["meter"], {"flags": _listed(meter["flags"])})


def _of_what_a_person_has_to_say(meter: Mapping[str, Any]) -> Iterator[Problem]:
    """Doubts that only a person can end."""
    if meter["ratio"] is not None:
        yield Problem("meter-ratio", WARNING, meter["meter"], meter["ratio"])
    if meter["returned_ms"] is not None:
        since = text_of_ms(meter["returned_ms"])[:16] + "Z"
        yield Problem("meter-returned", WARNING, meter["meter"], {"since": since})
    if meter["order"] is not None and not meter["order"]["confirmed"]:
        yield Problem("meter-order", WARNING, meter["meter"], {"by": meter["order"]["by"]})


def _of_the_platform(said: Mapping[str, Any]) -> Iterator[Problem]:
    platform, journal = said["platform"], said["journal"]
    waits_ms = journal["backlog_age_ms"] or 0
    waiting = {"batches": str(journal["backlog_batches"]), "kwh": journal["backlog_kwh"]}
    if platform.get("by_stick"):
        if waits_ms > STICK_LATE_MS:
            yield Problem("stick-waits", WARNING, "platform", {"age": format_age(waits_ms), **waiting})
    elif not platform["connected"]:
        if platform["for_ms"] > CONNECTING_MS:
            reason, remedy = taken_apart(platform["problem"])
            values = {
                "broker": platform["broker"],
                "age": format_age(platform["for_ms"]),
                "reason": reason,
                **waiting,
            }
            gravity = ERROR if platform["for_ms"] > BROKER_AWAY_MS else WARNING
            yield Problem("broker-away", gravity, "broker", values, remedy)
    elif platform["refusal"] is not None:
        reason, remedy = taken_apart(platform["refusal"])
        yield Problem("broker-refuses", ERROR, "broker", {"reason": reason}, remedy)
    elif waits_ms > PLATFORM_SILENT_MS < platform["for_ms"] and platform["acknowledgement"] == "platform":
        gravity = ERROR if waits_ms > PLATFORM_SILENT_LONG_MS else WARNING
        yield Problem("platform-silent", gravity, "platform", {"age": format_age(waits_ms), **waiting})
    if platform["rejected_recently"]:
        yield Problem(
            "platform-forged", WARNING, "platform", {"rejected": str(platform["rejected_messages"])}
        )


def _of_the_clock(clock: Mapping[str, Any]) -> Iterator[Problem]:
    if clock["sync"] == "U":
        yield Problem("clock-unknown", WARNING, "clock")
    elif clock["err_ms"] > CLOCK_ERR_MS:
        yield Problem("clock-error", WARNING, "clock", {"seconds": str(-(-clock["err_ms"] // 1000))})


def _of_the_key(key: Mapping[str, Any]) -> Iterator[Problem]:
    if key["rotation"] is not None:
        values = {"kid": key["kid"], "next": key["other"]}
        yield Problem(f"key-rotation-{key['rotation']}", NOTICE, "signing", values)


def _of_a_certificate(certificate: Mapping[str, Any], now_ms: int) -> Iterator[Problem]:
    subject, role = certificate["path"], certificate["role"]
    if certificate["problem"] is not None:
        yield Problem(
            "certificate-unreadable", ERROR, subject, {"role": role, "reason": certificate["problem"]}
        )
        return
    if now_ms < certificate["not_before_ms"]:
        yield Problem("certificate-early", ERROR, subject, {"role": role})
        return
    if now_ms > certificate["not_after_ms"]:
        yield Problem("certificate-ended", ERROR, subject, {"role": role})
        return
    days = certificate["days_left"]
    for limit, gravity in CERTIFICATE_DAYS:
        if days < limit:
            yield Problem("certificate-ends", gravity, subject, {"role": role, "days": str(days)})
            return


def _of_the_web(web: Mapping[str, Any]) -> Iterator[Problem]:
    if web["problem"] is not None:
        yield Problem("web-closed", WARNING, web["listen"], {"reason": web["problem"]})


def taken_apart(message: str, place: str = "") -> tuple[str, str | None]:
    """The fact and the remedy of a message of the form "place: fact; remedy"; None where it has no remedy."""
    fact, _, remedy = message.removeprefix(f"{place}: ").partition("; ")
    return fact, remedy or None


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words)


def _mb(size: int) -> str:
    return str(size // 1_000_000)


def format_age(length_ms: int) -> str:
    """A length of time for people, in its two greatest units: `3 h 12 min`, `14 s`."""
    seconds = length_ms // 1000
    for unit, size, lesser, lesser_size in (
        ("d", 86_400, "h", 3_600),
        ("h", 3_600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if seconds >= size:
            rest = seconds % size // lesser_size
            return f"{seconds // size} {unit}" + (f" {rest} {lesser}" if rest else "")
    return f"{seconds} s"
