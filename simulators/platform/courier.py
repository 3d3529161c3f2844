"""The platform's end of a stick: batches in, receipts out.

Every message on the stick goes through the same door as one from the broker, so that a stick can bring nothing that the
network could not. The manifest says whether the export is whole; a file that is damaged or missing is named and left
out, and what came behind it waits for another stick.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from agent.reporting import topics
from agent.reporting.courier import (
    ANSWERS,
    DOWN,
    FOLDERS,
    MANIFEST,
    MANIFEST_BYTES_MAX,
    UP,
    WORDS,
    Manifest,
    Part,
)
from agent.reporting.envelope import (
    BATCH,
    DESCRIPTOR,
    ENROLMENT,
    SIZE_MAX,
    STATUS,
    EnvelopeError,
    typ_of,
)
from agent.reporting.strictjson import NotStrict, loads
from agent.reporting.wire import WireError
from simulators.platform.answers import Outgoing
from simulators.platform.ingest import Platform

GROUP = 64
"""Messages in one commit."""
_TOPICS = {
    BATCH: topics.batch,
    DESCRIPTOR: topics.descriptor,
    STATUS: topics.status,
    ENROLMENT: topics.enrolment,
}


@dataclass(slots=True)
class Visit:
    """What came of one gateway's folder. `problems` are sentences for the person with the stick."""

    folder: str
    gateway: str = ""
    messages: int = 0
    answers: int = 0
    head: str | None = None
    problems: list[str] = field(default_factory=list)


def visit(platform: Platform, top: Path) -> list[Visit]:
    """Take in every gateway's folder on a stick and write the receipts beside it."""
    return [_Folder(platform, path).take() for path in sorted(top.glob(FOLDERS))]


class _Folder:
    def __init__(self, platform: Platform, folder: Path) -> None:
        self._platform = platform
        self._folder = folder
        self._visit = Visit(folder.name)

    def take(self) -> Visit:
        """Read, book, answer."""
        manifest = self._manifest()
        if manifest is None:
            return self._visit
        self._visit.gateway = f"{manifest.org}/{manifest.agent}"
        # The words end with the status, whose answer is the receipt for all before it.
        words = [part for part in manifest.parts if part.name == WORDS]
        batches = [part for part in manifest.parts if part.name != WORDS]
        self._feed(manifest, batches)
        answered = self._feed(manifest, words)
        # A status of a key in force is answered by itself; without one the gateway is told the head all the same.
        mine = topics.acknowledgement(manifest.org, manifest.agent)
        told = answered or [each for each in self._platform.acknowledge_all() if each.topic == mine]
        receipts = [each.payload for each in told]
        if receipts:
            _write(self._folder / DOWN, receipts)
        if not answered:
            self._visit.problems.append(
                "its key is not in force here: see metering-sim platform keys, approve"
            )
        self._visit.answers = len(receipts)
        self._visit.head = self._platform.head_of(manifest.org, manifest.agent)
        return self._visit

    def _manifest(self) -> Manifest | None:
        path = self._folder / UP / MANIFEST
        try:
            with path.open("rb") as file:
                data = file.read(MANIFEST_BYTES_MAX + 1)
            return Manifest.from_payload(loads(data, size_max=MANIFEST_BYTES_MAX))
        except FileNotFoundError:
            problem = "the export was broken off: there is no manifest; export again onto this stick"
        except (OSError, NotStrict, WireError) as error:
            problem = f"the manifest cannot be read: {error}"
        self._visit.problems.append(problem)
        return None

    def _feed(self, manifest: Manifest, parts: list[Part]) -> list[Outgoing]:
        """Hand the messages over in groups; gives what the platform answered to this gateway."""
        mine = topics.acknowledgement(manifest.org, manifest.agent)
        answers: list[Outgoing] = []
        group: list[tuple[str, bytes]] = []
        for line in self._lines(parts):
            try:
                typ = typ_of(line)
            except EnvelopeError as error:
                self._visit.problems.append(f"a line is no message: {error.reason}")
                continue
            if typ not in _TOPICS:
                self._visit.problems.append(f"a {typ} has no place on this way")
                continue
            group.append((_TOPICS[typ](manifest.org, manifest.agent), line))
            self._visit.messages += 1
            if len(group) >= GROUP:
                answers += self._platform.receive_many(group)
                group = []
        answers += self._platform.receive_many(group) if group else []
        return [each for each in answers if each.topic == mine]

    def _lines(self, parts: list[Part]) -> Iterator[bytes]:
        for part in parts:
            try:
                data = (self._folder / UP / part.name).read_bytes() if part.size <= _PART_MAX else b""
            except OSError as error:
                self._visit.problems.append(f"{part.name} cannot be read: {error.strerror}; export again")
                continue
            if Part.of(part.name, data) != part:
                self._visit.problems.append(f"{part.name} is not what was written; export again")
                continue
            yield from data.splitlines()


_PART_MAX = 512 * max(SIZE_MAX.values())


def _write(folder: Path, receipts: list[bytes]) -> None:
    """The receipts appear when they are whole and on the medium."""
    folder.mkdir(exist_ok=True)
    partial = folder / f"{ANSWERS}.partial"
    with partial.open("wb") as file:
        file.write(b"".join(receipt + b"\n" for receipt in receipts))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(folder / ANSWERS)
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def as_lines(visits: list[Visit], *, as_json: bool) -> list[str]:
    """For the person who carries the stick."""
    if as_json:
        names = ("folder", "gateway", "messages", "answers", "head", "problems")
        return [json.dumps([{name: getattr(each, name) for name in names} for each in visits])]
    if not visits:
        return ["there is no gateway's folder on this stick"]
    lines = []
    for each in visits:
        lines.append(
            f"{each.folder}: {each.messages} messages; {each.gateway or 'nobody'} stands at {each.head}"
        )
        lines += [f"  PROBLEM: {problem}" for problem in each.problems]
        if each.answers:
            lines.append("  receipts are written; carry the stick back: metering-agent courier ingest DIR")
    return lines
