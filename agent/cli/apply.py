"""`metering-agent apply`: another site file takes over as one transaction; all of it, or nothing.

Checked as `check` does; shown in words; every new or changed meter read on the bus; looked at by the running agent as
the user that has to start with it; then the file is replaced whole and the agent started again, which closes the
interval under the old descriptor. If things are not as well as before within a while, the old file is put back the same
way. The journal is touched by nobody but the agent. What is open after a crash of this command is on the disk beside
the site file (`agent.adapters.sitefile`); the next `apply`, and `status`, say where it stands.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click

from agent.adapters.sitefile import Record, SiteFile, sha256_of
from agent.cli.applywords import CHINESE, ENGLISH
from agent.cli.exits import NO, OK
from agent.cli.options import json_option, language_option, site_option
from agent.cli.rehearse import Found, rehearse
from agent.cli.running import NotRunning, ask_agent, ask_agent_once
from agent.cli.takingover import START_S, Complaint, Said, complaints, status_of, wait_for, watch
from agent.errors import ConfigError, RetryLater
from agent.settings.changes import Difference, difference, refuse_another_agent
from agent.settings.values import Site

DONE = frozenset({"applied", "applied-no-agent", "unchanged", "undone", "undone-no-agent"})
SPARE_S = 60
RESTART_S = 20
"""An agent that does not answer and has a manager is started again within so long."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line said."""

    yes: bool
    without_reading: bool
    within_s: int | None
    can_ask: bool


@dataclass
class Report:
    """Tells as it goes, or gathers for the JSON at the end."""

    sentences: Mapping[str, str]
    quiet: bool
    values: dict[str, str]
    gathered: dict[str, list[object]] = field(
        default_factory=lambda: {"changes": [], "readings": [], "faults": [], "complaints": []}
    )

    def say(self, code: str, /, **values: object) -> None:
        """One sentence."""
        if not self.quiet:
            click.echo(self.text(code, **values))

    def text(self, code: str, /, **values: object) -> str:
        """A sentence with its values."""
        return self.sentences[code].format_map({**self.values, **values})

    def item(self, kind: str, code: str, document: Mapping[str, object]) -> None:
        """One line of a list."""
        self.gathered[kind].append(dict(document))
        if not self.quiet:
            click.echo(f"  {self.text(code, **document)}")

    def fault(self, text: str) -> None:
        """A fault of the new file."""
        self.gathered["faults"].append(text)
        if not self.quiet:
            click.echo(text, err=True)


@click.command()
@click.argument("new_file", metavar="[NEW]", required=False, type=click.Path(path_type=Path))
@site_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--without-reading", is_flag=True, help="Also where a new or changed meter cannot be read at present."
)
@click.option(
    "--within",
    "within_s",
    type=click.IntRange(1, 86_400),
    metavar="SECONDS",
    help="How long all may take to be as well as before [two intervals and 60 s].",
)
@click.option("--undo", is_flag=True, help="Put back the old file after an apply that was interrupted.")
@language_option
@json_option
@click.pass_context
def apply(
    ctx: click.Context,
    new_file: Path | None,
    site_file: Path,
    yes: bool,
    without_reading: bool,
    within_s: int | None,
    undo: bool,
    language: str,
    as_json: bool,
) -> None:
    """Let the running agent take over NEW as its site file; all of it, or nothing.

    NEW is checked, its changes are shown, and each new or changed meter is read once. Then the agent seals what was
    read under the old file and starts with the new one. Unless all is soon as well as before, the old file is put back.
    Files that NEW names are looked for beside the site file.

    Exit code 0: applied. 1: nothing is changed, or it was rolled back, and why. 75: try again.
    """
    if undo == (new_file is not None):
        raise click.UsageError("give the new site file, or --undo")
    file = SiteFile(site_file)
    values = {
        "site": str(site_file),
        "before": str(file.before),
        "record": str(file.record_path),
    }
    report = Report(CHINESE if language == "zh" else ENGLISH, as_json, values)
    wish = Wish(yes, without_reading, within_s, can_ask=not as_json and _is_terminal())
    work = Application(file, report, wish)
    with file.locked():
        outcome = work.undo() if new_file is None else work.apply(new_file)
    if as_json:
        click.echo(
            json.dumps({"ok": outcome in DONE, "outcome": outcome, **report.gathered}, ensure_ascii=False)
        )
    else:
        report.say(outcome)
        for fault in report.gathered["faults"] if outcome == "refused" else ():
            click.echo(f"  {fault}")
    ctx.exit(OK if outcome in DONE else NO)


def _is_terminal() -> bool:
    import sys

    return sys.stdin.isatty()


class Application:
    """One change of one site file. Every method gives how it ended: a code that has a sentence."""

    def __init__(self, file: SiteFile, report: Report, wish: Wish) -> None:
        self._file = file
        self._report = report
        self._wish = wish

    # -- beginning, or going on

    def apply(self, new_file: Path) -> str:
        """See the command."""
        text = _text_of(new_file)
        record, there = self._file.record(), self._file.sha256()
        if record is not None and there == record.before:
            self._report.say("interrupted-old")
            self._let_agent_take(record.before)
            self._file.finish()
        elif record is not None and there == record.after:
            return self._resume(record) if sha256_of(text) == there else "open-new"
        elif record is not None:
            return "open-other"
        return self._begin(new_file, text)

    def undo(self) -> str:
        """Put the old text back, wherever an earlier command stood."""
        record = self._file.record()
        if record is None:
            return "nothing-open"
        if self._file.sha256() not in (record.before, record.after):
            return "open-other"
        return self._back(record, "undone", patience_s=0)

    def _resume(self, record: Record) -> str:
        self._report.say("resumed")
        old, new = _load(self._file.before), _load(self._file.path)
        return self._take_over(record, difference(old, new), new)

    def _begin(self, new_file: Path, text: bytes) -> str:
        try:
            new = self._checked(new_file)
        except ConfigError as error:
            for fault in error.faults:
                self._report.fault(str(fault))
            return "faulty"
        old = _load(self._file.path)
        if new.sha256 == old.sha256:
            return "unchanged"
        refuse_another_agent(old, new)
        said = _running(self._file.path)
        if said is not None and said["site"]["sha256"] != old.sha256:
            return "running-other"
        serials = {meter["meter"]: meter["serial"] for meter in said["meters"]} if said else {}
        change = difference(old, new, serials)
        if not self._is_wanted(change):
            return "planned"
        unread = self._unread(old, new, change, is_running=said is not None)
        if unread and not self._wish.without_reading:
            return "not-read"
        self._file.stage(text)
        if said is not None and (faults := self._faults_of_agent()):
            self._report.gathered["faults"] += faults
            self._file.unstage()
            return "refused"
        record = _record(old, new, said, unread)
        self._file.swap(record)
        return self._take_over(record, change, new)

    def _checked(self, new_file: Path) -> Site:
        """All that `check` says of it, with the files that it names where they will be."""
        from agent.cli.keycheck import check_keys
        from agent.settings.site import load_site

        site = load_site(new_file, base=self._file.path.parent)
        check_keys(site)
        return site

    def _is_wanted(self, change: Difference) -> bool:
        self._report.say("changes")
        for each in change.changes:
            self._report.item(
                "changes", each.code, {"code": each.code, "subject": each.subject, **each.values}
            )
        if self._wish.yes:
            return True
        return self._wish.can_ask and click.confirm(self._report.text("ask"))

    def _unread(self, old: Site, new: Site, change: Difference, *, is_running: bool) -> list[str]:
        """The new and changed meters that gave no sound reading."""
        if not change.to_read:
            return []

        def tell(found: Found) -> None:
            code = "unread" if found.problem is not None else "read"
            said = {"subject": found.meter, **asdict(found), "serial": found.serial or "-"}
            self._report.item("readings", code, said)

        self._report.say("reading")
        found = rehearse(old, new, change.to_read, is_running=is_running, tell=tell)
        return [each.meter for each in found if each.problem is not None]

    def _faults_of_agent(self) -> list[str]:
        """What the running agent, as its own user, says of the staged file."""
        try:
            said = ask_agent_once(self._file.path, "examine")
        except BaseException:
            self._file.unstage()
            raise
        faults = said.get("faults")
        assert isinstance(faults, list)
        return [str(fault) for fault in faults]

    # -- the agent takes it over, or the old one again

    def _take_over(self, record: Record, change: Difference, new: Site) -> str:
        within_s = self._wish.within_s or 2 * new.interval_ms // 1000 + SPARE_S
        try:
            if _running(self._file.path) is None:
                self._file.finish()
                return "applied-no-agent"
            self._report.say("waiting")
            left = self._let_agent_take(record.after)
            if not left:
                self._report.say("watching", within=within_s)
                left = watch(self._file.path, lambda said: complaints(record, said, change), within_s)
        except KeyboardInterrupt:
            self._report.say("interrupted")
            raise
        if not left:
            self._file.finish()
            return "applied"
        self._report.say("going-back")
        for each in left:
            self._report.item(
                "complaints", each.code, {"code": each.code, "subject": each.subject, **each.values}
            )
        return self._back(record, "rolled-back", patience_s=RESTART_S)

    def _back(self, record: Record, outcome: str, *, patience_s: float) -> str:
        if self._file.sha256() != record.before:
            self._file.put_back()
        left = self._let_agent_take(record.before, patience_s=patience_s)
        self._file.finish()
        return f"{outcome}-no-agent" if left else outcome

    def _let_agent_take(self, sha256: str, *, patience_s: float = 0) -> Sequence[Complaint]:
        """Have the agent run with the text that lies there; an empty list once it does.

        `patience_s` is how long one that does not answer at all is waited for.
        """
        said = status_of(self._file.path)
        if said is not None and said["site"]["sha256"] == sha256:
            return []
        if said is None:
            back = wait_for(self._file.path, sha256, None, patience_s)
        else:
            try:
                ask_agent_once(self._file.path, "take-over", {"sha256": sha256})
            except RetryLater as error:
                return [Complaint("no-order", "", {"reason": str(error)})]
            back = wait_for(self._file.path, sha256, said["started_ms"], START_S)
        return [] if back is not None else [Complaint("no-agent", "", {})]


def _record(old: Site, new: Site, said: Said | None, exempt: Sequence[str]) -> Record:
    if said is None:
        return Record(old.sha256, new.sha256, exempt=tuple(exempt))
    good = tuple(meter["meter"] for meter in said["meters"] if meter["quality"] == "good")
    connected = said["platform"]["connected"] is True
    return Record(old.sha256, new.sha256, good, tuple(exempt), was_connected=connected)


def _running(site_file: Path) -> Said | None:
    """What the running agent says; None where none runs. Raises RetryLater where it runs and does not answer."""
    try:
        return ask_agent(site_file, "status")
    except NotRunning:
        return None


def _load(file: Path) -> Site:
    from agent.settings.site import load_site

    return load_site(file, any_budget=True)


def _text_of(new_file: Path) -> bytes:
    try:
        return new_file.read_bytes()
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
        raise ConfigError.of(new_file, reason, "name the new site file") from None
