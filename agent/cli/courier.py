"""`metering-agent courier export|ingest`: batches and receipts on a stick, where there is no network.

The running agent gives the messages and takes the answers, over its control socket; here are the files. A file appears
under its name when it is whole and on the medium; the manifest comes last. So a stick that is pulled out midway is seen
to be incomplete, and the same command again writes only what is missing.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import click

from agent.adapters.control import ask_for_lines
from agent.cli.chinese import COURIER as CHINESE
from agent.cli.exits import NO
from agent.cli.options import json_option, language_option, site_option
from agent.cli.running import NotRunning
from agent.errors import ConfigError, RetryLater
from agent.reporting.courier import (
    ANSWERS,
    DOWN,
    FOLDERS,
    MANIFEST,
    UP,
    WORDS,
    Manifest,
    Part,
    folder_name,
    part_name,
)
from agent.reporting.envelope import BATCH, SIZE_MAX, typ_of
from agent.service.export import payload_of
from agent.settings.site import Site, load_site

LINE_BYTES_MAX = max(SIZE_MAX.values()) + 2
ENGLISH: Mapping[str, str] = {
    "exported": "{folder}: {batches} batches in {files} files, {written} of them new.",
    "question": "Platform and journal disagree about what was sent last: this stick carries only the question. "
    "Batches follow once its answer has come back.",
    "next": "The stick may be taken out now. Next: carry it to the platform's operator, and back here; then:",
    "nothing": "nothing yet",
    "taken": "taken: the platform has everything up to {place}",
    "stale": "known already, or older than what is known; nothing was changed",
    "waiting": "the agent waits for the answer to a question of its own; carry a new export to the platform",
    "asking": "the platform stands elsewhere than this journal ({place}); carry a new export there, which asks",
    "backwards": "the platform went back without saying that it was restored ({place}); ask its operator",
    "restored": "taken: a new chain begins behind {place}; carry a new export to the platform",
    "later": "could not be kept now: {reason}; try again",
    "refused": "REFUSED: {reason}",
}


@click.group()
def courier() -> None:
    """Carry batches to the platform and its receipts back on a stick, where there is no network."""


@courier.command(short_help="Write onto a stick what the platform has not acknowledged.")
@site_option
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@language_option
@json_option
def export(site_file: Path, folder: Path, language: str, as_json: bool) -> None:
    """Write what the platform has not acknowledged into DIR, the top of the stick.

    May be repeated, onto the same stick or another: what the platform gets twice counts once. Nothing is forgotten here
    until the platform's receipt has come back with `courier ingest`.
    """
    site = load_site(site_file, any_budget=True)
    done = write_stick(folder, _lines(site, "courier", {}))
    if as_json:
        click.echo(json.dumps(done.manifest.to_payload() | {"folder": str(done.folder)}))
        return
    say, manifest = _words(language), done.manifest
    counted = {"batches": manifest.batches, "files": len(manifest.parts), "written": done.written}
    click.echo(say["exported"].format(folder=done.folder, **counted))
    if done.standing != "normal":
        click.echo(say["question"])
    click.echo(say["next"])
    click.echo(f"  metering-agent courier ingest {folder}")


@courier.command(short_help="Hand the receipts on a stick to the running agent.")
@site_option
@click.argument(
    "files", metavar="FILE...", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path)
)
@language_option
@json_option
@click.pass_context
def ingest(
    ctx: click.Context, site_file: Path, files: tuple[Path, ...], language: str, as_json: bool
) -> None:
    """Hand the platform's receipts to the running agent: FILE is one of them, or the top of the stick.

    They are believed as from the network: signed by the platform's pinned key, for this gateway, newer than the last.
    Exit code 0: all were taken or known already. 1: one was refused. 75: one could not be kept now.
    """
    site = load_site(site_file, any_budget=True)
    results = []
    for file in files:
        for place, line in _receipts(site, file):
            answer = json.loads(next(_lines(site, "courier-ingest", {"jws": line})))
            results.append({"file": str(place), **answer})
            if not as_json:
                click.echo(f"{place}: {_text_of(answer, _words(language))}")
    if as_json:
        click.echo(json.dumps(results))
    outcomes = {result["outcome"] for result in results}
    if "later" in outcomes:
        raise RetryLater("the journal has no room at present; free space and ingest the stick again")
    ctx.exit(NO if "refused" in outcomes else 0)


def _words(language: str) -> Mapping[str, str]:
    return CHINESE if language == "zh" else ENGLISH


def _text_of(answer: dict[str, object], say: Mapping[str, str]) -> str:
    head = answer.get("head")
    place = f"{head['chain']}/{head['seq']}" if isinstance(head, dict) else say["nothing"]
    return say[str(answer["outcome"])].format(place=place, reason=answer.get("reason"))


def _lines(site: Site, question: str, arguments: dict[str, object]) -> Iterator[bytes]:
    """What the running agent answers, line by line."""
    try:
        yield from ask_for_lines(site.control_socket, question, arguments)
    except (FileNotFoundError, ConnectionRefusedError):
        raise NotRunning(
            f"no agent runs on {site.path}; start it, because only the running agent writes and reads its journal"
        ) from None
    except PermissionError as error:
        remedy = "run this as the user who runs the agent (sudo -u metering ...)"
        raise ConfigError.of(site.control_socket, "may not be used", remedy) from error
    except OSError as error:
        raise RetryLater(f"the running agent does not answer ({error}); try again") from error


# --------------------------------------------------------------------------------------------------- writing


@dataclass(frozen=True, slots=True)
class Done:
    """An export that is whole; `written` counts the files that were not on the stick before."""

    folder: Path
    manifest: Manifest
    written: int
    standing: str


def write_stick(top: Path, lines: Iterable[bytes]) -> Done:
    """Write an export below the top of a stick.

    Args:
        top: an existing folder.
        lines: as `agent.service.courier` gives them.

    Raises:
        ConfigError: the stick is full, write-protected or was pulled out; what is complete stays.
        RetryLater: the agent broke off.
    """
    try:
        return _Writing(top).run(iter(lines))
    except _NotWritten as error:
        reason = f"could not be written ({error}); the export is not complete"
        remedy = "put the stick in again, see that it has room, and type the same command: it goes on where it ended"
        raise ConfigError.of(top, reason, remedy) from error


class _NotWritten(Exception):
    """The medium failed."""


@dataclass(slots=True)
class _Writing:
    top: Path
    parts: list[Part] = field(default_factory=list)
    written: int = 0
    _folder: Path = Path()

    def run(self, lines: Iterator[bytes]) -> Done:
        opening = _object(next(lines, b""), "opening")
        org, agent = str(opening["org"]), str(opening["agent"])
        self._folder = self.top / folder_name(org, agent) / UP
        self._prepare()
        words: list[bytes] = []
        name, block, batches, closed = "", list[bytes](), 0, False
        for line in lines:
            if line.startswith(b"{"):
                closed = _object(line, "closing")["batches"] == batches
                break
            if typ_of(line) != BATCH:
                words.append(line)
                continue
            batches += 1
            wanted = _part_of(line)
            if wanted != name and block:
                self._put(name, block)
                block = []
            name = wanted
            block.append(line)
        if not closed:
            raise RetryLater(
                "the running agent stopped in the middle of the export; type the same command again"
            )
        if block:
            self._put(name, block)
        self._put(WORDS, words)
        made_at, aud = str(opening["made_at"]), str(opening["aud"])
        manifest = Manifest(org, agent, aud, made_at, batches, self.parts)
        self._finish(manifest)
        return Done(self._folder.parent, manifest, self.written, str(opening["standing"]))

    def _prepare(self) -> None:
        """Without its manifest the stick is incomplete from here on."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / MANIFEST).unlink(missing_ok=True)
            _sync(self._folder)
        except OSError as error:
            raise _NotWritten(error.strerror or error) from error

    def _put(self, name: str, lines: list[bytes]) -> None:
        data = b"".join(line + b"\n" for line in lines)
        path = self._folder / name
        try:
            if not (path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data):
                _write(path, data)
                self.written += 1
        except OSError as error:
            raise _NotWritten(error.strerror or error) from error
        self.parts.append(Part.of(name, data))

    def _finish(self, manifest: Manifest) -> None:
        """The manifest, and then nothing of ours that it does not name; what others left on the stick is theirs."""
        text = json.dumps(manifest.to_payload(), indent=1).encode() + b"\n"
        wanted = {MANIFEST, *(part.name for part in self.parts)}
        try:
            _sync(self._folder)
            _write(self._folder / MANIFEST, text)
            for path in self._folder.iterdir():
                ours = path.suffix in (".jws", ".partial") and not path.name.startswith(".")
                if ours and path.name not in wanted and path.is_file():
                    path.unlink()
            _sync(self._folder)
            _sync(self._folder.parent)
        except OSError as error:
            raise _NotWritten(error.strerror or error) from error


def _part_of(jws: bytes) -> str:
    payload = payload_of(jws)
    chain, seq = payload.get("chain"), payload.get("seq")
    assert isinstance(chain, str)
    assert isinstance(seq, int)
    return part_name(chain, seq)


def _object(line: bytes, name: str) -> dict[str, object]:
    try:
        return dict(json.loads(line)[name])
    except (ValueError, KeyError, TypeError):
        text = line[:200].decode("ascii", "replace") or "nothing"
        raise RetryLater(
            f"the running agent did not give an export ({text}); is it an older version?"
        ) from None


def _write(path: Path, data: bytes) -> None:
    """A file that is whole and on the medium, or not there at all under its name."""
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# --------------------------------------------------------------------------------------------------- reading


def _receipts(site: Site, file: Path) -> Iterator[tuple[Path, str]]:
    """The receipts in a file, or on a stick in the folder of this gateway."""
    if file.is_dir():
        file = file / folder_name(site.plant.org, site.plant.agent) / DOWN / ANSWERS
    if not file.is_file():
        others = sorted(path.name for path in file.parents[2].glob(FOLDERS)) if len(file.parents) > 2 else []
        reason = "there is no receipt for this gateway"
        if others:
            reason += f"; the stick has {', '.join(others)}"
        remedy = "the platform's operator has to type: metering-sim platform courier DIR"
        raise ConfigError.of(file, reason, remedy)
    with file.open("rb") as lines:
        while line := lines.readline(LINE_BYTES_MAX):
            text = line.strip().decode("ascii", "replace")
            if text:
                yield file, text
