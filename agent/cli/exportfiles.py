"""The files of an export: what an auditor opens, years later, on a machine that has never heard of us.

    evidence.jws    the signed messages, one a line, in the order in which they are read: the evidence
    agent.pem       the agent's public key, agent-2.pem and so on others that signed in the period
    platform.pem    the platform's, with which it signs acknowledgements
    manifest.json   what this is, what it holds, the SHA-256 of the other files, how to check it
    VERIFY.md       a check by hand with openssl, jq and a shell
    verify.html     a check in a browser, offline
    purged.jsonl    only where there are any: hashes of batches whose text is no longer kept

Only evidence.jws is evidence; it needs no other file to be true. Written beside its name and renamed when it is
complete, so that half an export is never taken for a whole one; in constant memory, whatever its length.
"""

import base64
import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, Protocol

from agent import __version__
from agent.adapters.keys import PublicKey, public_key_of_jwk
from agent.errors import ConfigError, Refused
from agent.reporting import envelope
from agent.reporting.chain import ChainHead
from agent.reporting.utc import text_of_ms
from agent.reporting.wire import Members
from agent.resources import package_path
from agent.service.export import Closing, Evidence, Item, KeysUsed, Opening, Period, Purged, payload_of
from agent.settings.site import Site

EVIDENCE = "evidence.jws"
EMBEDDED = b'<script type="application/json" id="export">null</script>'
"""Where verify.html is given the keys and the manifest."""
_NOTE = (
    "This manifest is not signed and proves nothing by itself; the lines of evidence.jws do. The keys came with the "
    "evidence: compare their thumbprints with those that were noted at enrolment, over another channel."
)


# --------------------------------------------------------------------------------------------------- where it goes


class _Sink(Protocol):
    def member(self, name: str) -> IO[bytes]:
        """A new file to write; one at a time."""

    def close(self) -> None:
        """Everything was written."""


class _Folder:
    def __init__(self, path: Path) -> None:
        self._path = path
        path.mkdir()

    def member(self, name: str) -> IO[bytes]:
        return (self._path / name).open("xb")

    def close(self) -> None:
        """Make it durable: an export often goes to a stick that is pulled out at once."""
        for path in (*self._path.iterdir(), self._path):
            handle = os.open(path, os.O_RDONLY)
            os.fsync(handle)
            os.close(handle)


class _Zip:
    def __init__(self, path: Path, folder: str) -> None:
        self._file = path.open("xb")
        self._zip = zipfile.ZipFile(self._file, "w", zipfile.ZIP_DEFLATED)
        self._folder = folder

    def member(self, name: str) -> IO[bytes]:
        return self._zip.open(f"{self._folder}/{name}", "w", force_zip64=True)

    def close(self) -> None:
        self._zip.close()
        os.fsync(self._file.fileno())
        self._file.close()


class Parcel:
    """A folder, or a file that ends in .zip, which appears under its name only when it is complete."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigError where something has the name already, so that no export is overwritten."""
        self.path = path
        self.zipped = path.suffix.lower() == ".zip"
        self._partial = path.with_name(f"{path.name}.partial")
        if os.path.lexists(path):
            raise ConfigError.of(
                path, "exists already", "choose another name; an export is never overwritten"
            )
        if os.path.lexists(self._partial):
            raise ConfigError.of(self._partial, "is left over from an export that broke off", "delete it")

    @contextmanager
    def open(self) -> Iterator[_Sink]:
        """Write into it; what was written is gone again if the block is left by an exception."""
        try:
            sink: _Sink = _Zip(self._partial, self.path.stem) if self.zipped else _Folder(self._partial)
            yield sink
            sink.close()
            self._partial.rename(self.path)
        except OSError as error:
            self._discard()
            reason = f"cannot be written: {error.strerror or error}"
            raise ConfigError.of(
                self.path, reason, "choose a folder with room that this user may write"
            ) from error
        except BaseException:
            self._discard()
            raise

    def _discard(self) -> None:
        if self._partial.is_dir():
            shutil.rmtree(self._partial)
        else:
            self._partial.unlink(missing_ok=True)


# ------------------------------------------------------------------------------------------------ what is in it


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file as the manifest names it."""

    name: str
    bytes: int
    sha256: str
    what: str


@dataclass(slots=True)
class _Span:
    chain: str
    seq_first: int
    seq_last: int
    hash: str


@dataclass(slots=True)
class Tally:
    """Counts what goes by."""

    batches: int = 0
    deltas: int = 0
    events: int = 0
    descriptors: int = 0
    acknowledgements: int = 0
    chains: list[_Span] = field(default_factory=list)
    signed_by: dict[str, int] = field(default_factory=dict)
    sealed: tuple[str, str] | None = None
    _headers: dict[bytes, tuple[str, str]] = field(default_factory=dict, repr=False)

    def take(self, jws: bytes) -> None:
        """Count one message."""
        signed, _, _ = jws.rpartition(b".")
        typ, kid = self._header(signed.partition(b".")[0])
        self.signed_by[kid] = self.signed_by.get(kid, 0) + 1
        if typ == envelope.BATCH:
            self._batch(payload_of(jws), envelope.base64url(hashlib.sha256(signed).digest()))
        elif typ == envelope.DESCRIPTOR:
            self.descriptors += 1
        else:
            self.acknowledgements += 1

    def _header(self, text: bytes) -> tuple[str, str]:
        if text not in self._headers:
            header = json.loads(base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4)))
            self._headers[text] = (header["typ"], header["kid"])
        return self._headers[text]

    def _batch(self, payload: dict[str, object], hash_: str) -> None:
        batch = Members(payload)
        chain, seq, sealed = batch.ulid("chain"), batch.integer("seq", 1), batch.text("iat")
        self.batches += 1
        self.deltas += sum(1 for _ in batch.items("deltas"))
        self.events += sum(1 for _ in batch.items("events"))
        self.sealed = (self.sealed[0] if self.sealed else sealed, sealed)
        if self.chains and self.chains[-1].chain == chain:
            self.chains[-1].seq_last, self.chains[-1].hash = seq, hash_
        else:
            self.chains.append(_Span(chain, seq, seq, hash_))


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an export holds and how to check it; `as_json` is the file."""

    site: Site
    period: Period
    running: bool
    made_at: str
    opening: Opening
    closing: Closing
    tally: Tally
    keys: Sequence[tuple[str, str, PublicKey]]
    """File, whose it is (`agent` or `platform`), and the key."""
    files: Sequence[FileEntry]

    def as_json(self) -> dict[str, object]:
        """The manifest; times in UTC text."""
        tally = self.tally
        return {
            "what": "metering-agent export",
            "version": 1,
            "gateway": {"org": self.site.plant.org, "agent": self.site.plant.agent},
            "audience": self.site.platform.audience,
            "software": f"metering-agent {__version__}",
            "made_at": self.made_at,
            "source": "the running agent" if self.running else "the journal of a stopped agent",
            "period": {
                "from": _text_or_none(self.period.from_ms),
                "to": _text_or_none(self.period.to_ms),
                "first_sealed": tally.sealed[0] if tally.sealed else None,
                "last_sealed": tally.sealed[1] if tally.sealed else None,
                "batches_before_it": self.opening.rewound,
            },
            "counts": {
                "batches": tally.batches,
                "deltas": tally.deltas,
                "events": tally.events,
                "descriptors": tally.descriptors,
                "acknowledgements": tally.acknowledgements,
                "superseded_left_out": self.closing.superseded,
                "purged_only_hashes": self.closing.purged,
            },
            "chains": [
                {
                    "chain": span.chain,
                    "seq_first": span.seq_first,
                    "seq_last": span.seq_last,
                    "hash": span.hash,
                }
                for span in tally.chains
            ],
            "begins_after": _payload(self.opening.after),
            "beginning_proved": self.opening.proved,
            "heads_when_made": {
                "journal": _payload(self.opening.own),
                "acknowledged": _payload(self.opening.acknowledged),
            },
            "keys": [
                {"file": file, "of": whose, "alg": key.alg, "thumbprint": key.kid}
                for file, whose, key in self.keys
            ],
            "signed_by": dict(tally.signed_by),
            "files": [
                {"name": file.name, "bytes": file.bytes, "sha256": file.sha256, "what": file.what}
                for file in self.files
            ],
            "verify": {
                "command": self.command(Path()),
                "browser": "open verify.html, offline",
                "by_hand": "VERIFY.md",
            },
            "note": _NOTE,
        }

    def command(self, folder: Path) -> str:
        """The command that verifies it."""
        words = ["metering-agent verify"]
        words += [
            f"--{'key' if whose == 'agent' else 'acknowledgement-key'} {folder / file}"
            for file, whose, _ in self.keys
        ]
        words += [] if self.opening.proved else ["--excerpt"]
        return " ".join([*words, str(folder / EVIDENCE)])

    def summary(self) -> list[str]:
        """What is in it, for a person who has just made it."""
        tally, counts = self.tally, self.closing
        lines = [
            f"batches {tally.batches}, deltas {tally.deltas}, events {tally.events}, descriptors {tally.descriptors}, "
            f"acknowledgements {tally.acknowledgements}"
        ]
        if tally.sealed:
            lines.append(f"sealed from {tally.sealed[0]} to {tally.sealed[1]}")
        lines += [f"chain {span.chain}, seq {span.seq_first} to {span.seq_last}" for span in tally.chains]
        if self.opening.rewound:
            lines.append(
                f"{self.opening.rewound} batches from before the period were added, back to the last one that the "
                "platform's receipts name; this proves that nothing was cut off at the beginning"
            )
        if not self.opening.proved:
            lines.append(
                "it begins in mid-chain and no receipt of the platform names the batch before; verify it as an excerpt"
            )
        if counts.purged:
            lines.append(f"{counts.purged} batches are no longer kept here, only their hashes: purged.jsonl")
        if counts.superseded:
            lines.append(f"{counts.superseded} batches were never sent; a later chain tells their energy")
        known = {key.kid for _, _, key in self.keys}
        lines += [
            f"WARNING: {count} messages are signed by key {kid}, whose public half is not at hand; add its PEM file"
            for kid, count in tally.signed_by.items()
            if kid not in known
        ]
        return lines


def _text_or_none(ms: int | None) -> str | None:
    return None if ms is None else text_of_ms(ms)


def _payload(head: ChainHead | None) -> dict[str, object] | None:
    return None if head is None else head.to_payload()


# ------------------------------------------------------------------------------------------------------ writing it


class _Writer:
    """Writes one file after the other and remembers what the manifest says of them."""

    def __init__(self, sink: _Sink) -> None:
        self._sink = sink
        self.files: list[FileEntry] = []

    def lines(self, name: str, what: str, lines: Iterable[bytes]) -> None:
        """A file of lines, as they come."""
        digest, size = hashlib.sha256(), 0
        with self._sink.member(name) as file:
            for line in lines:
                file.write(line)
                file.write(b"\n")
                digest.update(line)
                digest.update(b"\n")
                size += len(line) + 1
        self.files.append(FileEntry(name, size, digest.hexdigest(), what))

    def data(self, name: str, what: str, data: bytes) -> None:
        """A small file."""
        with self._sink.member(name) as file:
            file.write(data)
        self.files.append(FileEntry(name, len(data), hashlib.sha256(data).hexdigest(), what))


@dataclass(slots=True)
class _Sorter:
    """Takes the items apart: messages go on, hashes of purged batches aside, the frame is kept."""

    tally: Tally
    aside: IO[bytes]
    opening: Opening | None = None
    closing: Closing | None = None
    used: tuple[PublicKey, ...] = ()

    def messages(self, items: Iterable[Item]) -> Iterator[bytes]:
        for item in items:
            match item:
                case Evidence(jws):
                    self.tally.take(jws)
                    yield jws
                case Purged(head, stored_ms):
                    entry = {**head.to_payload(), "acknowledged_at": _text_or_none(stored_ms)}
                    self.aside.write(json.dumps(entry).encode() + b"\n")
                case Opening():
                    self.opening = item
                case KeysUsed(jwks):
                    self.used = tuple(public_key_of_jwk(jwk) for jwk in jwks)
                case Closing():
                    self.closing = item

    def earlier_keys(self, named: Sequence[PublicKey]) -> list[PublicKey]:
        """The keys of the journal that signed something here, beside those that were named."""
        known = {key.kid for key in named}
        return [key for key in self.used if key.kid in self.tally.signed_by and key.kid not in known]


def write_export(
    parcel: Parcel,
    items: Iterable[Item],
    *,
    site: Site,
    period: Period,
    agent_keys: Sequence[PublicKey],
    platform_keys: Sequence[PublicKey],
    running: bool,
    now: datetime,
) -> Manifest:
    """Write all files of an export.

    Raises:
        Refused: there is nothing in the period; nothing was written.
        ConfigError: it cannot be written there.
        RetryLater, JournalDamaged: as `items` does; nothing is left behind.
    """
    with parcel.open() as sink, tempfile.TemporaryFile() as aside:
        writer, sorter = _Writer(sink), _Sorter(Tally(), aside)
        writer.lines(EVIDENCE, "signed messages, one a line: the evidence", sorter.messages(items))
        opening, closing = sorter.opening, sorter.closing
        assert opening is not None
        assert closing is not None
        if not closing.batches and not closing.purged:
            raise Refused("no batch was sealed in this period; nothing was written")
        if closing.purged:
            aside.seek(0)
            what = "hashes of batches whose text is no longer kept"
            writer.lines("purged.jsonl", what, (line.rstrip(b"\n") for line in aside))
        earlier = sorter.earlier_keys(agent_keys)
        of_agent = (
            [*agent_keys, *earlier] if agent_keys else earlier[::-1]
        )  # the present key has the first name
        if not of_agent:
            reason = "no key is known: the signing key is a systemd credential, and nothing was signed in this period"
            remedy = "give its public key with --key FILE, or name another period"
            raise ConfigError.of(site.path, reason, remedy, key="signing")
        keys = [*_named(of_agent, "agent"), *_named(platform_keys, "platform")]
        for file, whose, key in keys:
            writer.data(file, f"public key of the {whose}", key.pem.encode())
        writer.data("VERIFY.md", "a check by hand", package_path("reporting", "VERIFY.md").read_bytes())
        made_at = text_of_ms(int(now.timestamp()) * 1000)
        manifest = Manifest(
            site, period, running, made_at, opening, closing, sorter.tally, keys, tuple(writer.files)
        )
        writer.data("verify.html", "a check in a browser, offline", _page(manifest))
        manifest = Manifest(
            site, period, running, made_at, opening, closing, sorter.tally, keys, tuple(writer.files)
        )
        text = json.dumps(manifest.as_json(), indent=2, ensure_ascii=False)
        writer.data("manifest.json", "", text.encode() + b"\n")
    return manifest


def _named(keys: Sequence[PublicKey], whose: str) -> list[tuple[str, str, PublicKey]]:
    return [
        (f"{whose}.pem" if number == 1 else f"{whose}-{number}.pem", whose, key)
        for number, key in enumerate(keys, 1)
    ]


def _page(manifest: Manifest) -> bytes:
    """verify.html with the keys and the manifest in it, so that only the evidence has to be given to it."""
    page = package_path("reporting", "verify.html").read_bytes()
    if page.count(EMBEDDED) != 1:
        raise AssertionError("verify.html has lost the place where the keys go")
    known = {
        "manifest": manifest.as_json(),
        "keys": [{"of": whose, "file": file, "pem": key.pem} for file, whose, key in manifest.keys],
        "steps": {step.id: [step.name_en, step.name_zh] for step in manifest.site.catalogue.steps.values()},
    }
    text = json.dumps(known).replace("<", "\\u003c").encode()
    return page.replace(EMBEDDED, EMBEDDED.replace(b"null", text))
