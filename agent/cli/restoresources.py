"""What `restore` is given, read and verified: a statement of the platform, the own last status, or an export.

Of several words the platform's come first, then the newest own status with heads, then the export. A platform's word
is judged by the running agent, which has its key pinned; own words are judged here, with the keys that the site file
names and those a person vouches for.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.adapters.keys import (
    PublicKey,
    PublicKeys,
    load_public_key,
    load_signer,
    public_key_of_jwk,
)
from agent.errors import ConfigError
from agent.reporting import envelope, strictjson
from agent.reporting.acknowledgement import heads_to_payload
from agent.reporting.courier import ANSWERS, DOWN, UP, WORDS, folder_name
from agent.reporting.position import Positions, positions_of
from agent.reporting.status import Status
from agent.reporting.utc import text_of_ms
from agent.reporting.verify import LINE_BYTES_MAX, Verifier
from agent.reporting.wire import Members
from agent.settings.site import Site

EVIDENCE = "evidence.jws"
_READ_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True)
class Source:
    """What was found: `kind` is `platform`, `status` or `export`; `question` is what the agent is asked with."""

    kind: str
    path: Path
    evidence: str
    question: dict[str, object]


def read_source(site: Site, path: Path, keys: Sequence[Path]) -> Source:
    """Read what a person brought.

    Args:
        site: the gateway's site file.
        path: a file of messages, an export's folder, or the top of a stick.
        keys: public keys of this gateway beside those of the site file, PEM.

    Raises:
        ConfigError: nothing in it says where chain and meters stand, or it is not sound.
    """
    own = _own_keys(site, keys)
    problems: list[str] = []
    for file in _files(site, path):
        found = _Reading(site, file, own, problems).source()
        if found is not None:
            return found
    reason = "; ".join(dict.fromkeys(problems)) or "nothing in it says where the chain and the meters stand"
    remedy = (
        "ask the platform's operator for `metering-sim platform heads`, or name the folder of an export of this"
        " gateway, or a file with its last status from the broker (topic up/status)"
    )
    raise ConfigError.of(path, reason, remedy)


def _own_keys(site: Site, files: Sequence[Path]) -> list[PublicKey]:
    named = [load_public_key(file) for file in files]
    present = [site.signing.key_file, site.signing.next_key_file]
    return named + [load_signer(file).public_key for file in present if file is not None]


def _files(site: Site, path: Path) -> list[Path]:
    """The files to look into, the best word first."""
    if path.suffix == ".zip":
        raise ConfigError.of(path, "is packed", "unpack it and name the folder")
    if not path.is_dir():
        return [path]
    stick = path / folder_name(site.plant.org, site.plant.agent)
    wanted = [stick / DOWN / ANSWERS, stick / UP / WORDS, path / EVIDENCE]
    found = [file for file in wanted if file.is_file()]
    if not found:
        reason = f"is neither an export (no {EVIDENCE}) nor a stick with the folder {stick.name}"
        remedy = "name the file, the folder of an export, or the top of the stick"
        raise ConfigError.of(path, reason, remedy)
    return found


class _Reading:
    """One file."""

    def __init__(self, site: Site, path: Path, keys: list[PublicKey], problems: list[str]) -> None:
        self._site = site
        self._path = path
        self._keys = keys
        self._problems = problems

    def source(self) -> Source | None:
        """The best word in it; None where it has none, and why is among the problems."""
        said = self._by_type(envelope.ACKNOWLEDGEMENT)
        best = max(said, key=_order_of, default=None)
        if best is not None and b'"heads"' in _payload(best):
            return self._made("platform", {"jws": best.decode("ascii")})
        status = self._status()
        if status is not None:
            assert status.head is not None
            assert status.heads is not None
            head = {"chain": status.chain, "seq": status.head[0], "hash": status.head[1]}
            position = {"head": head, "heads": heads_to_payload(status.heads), "rev": None}
            return self._made("status", {"position": {**position, "at": text_of_ms(status.at_ms)}})
        return self._export()

    def _made(self, kind: str, question: dict[str, object]) -> Source:
        return Source(kind, self._path, _hash_of(self._path), question)

    def _status(self) -> Status | None:
        found: list[Status] = []
        for jws in self._by_type(envelope.STATUS):
            try:
                opened = envelope.open_sealed(jws, envelope.STATUS, PublicKeys(self._keys))
                status = Status.from_payload(opened.payload)
            except ValueError as error:
                self._problems.append(f"{self._path.name}: the status is not genuine ({error}); see --key")
                continue
            if (status.org, status.agent) != (self._site.plant.org, self._site.plant.agent):
                self._problems.append(f"{self._path.name}: the status is of {status.org}/{status.agent}")
            elif status.heads is None or status.head is None:
                self._problems.append(
                    f"{self._path.name}: the status says nothing of the meters (only in broker mode it does)"
                )
            else:
                found.append(status)
        return max(found, key=lambda each: each.at_ms, default=None)

    def _export(self) -> Source | None:
        if not any(True for _ in self._by_type(envelope.BATCH)):
            return None
        keys = PublicKeys([*self._keys, *_keys_beside(self._path)] if not self._keys else self._keys)
        verifier = Verifier(keys, admit=lambda jwk: PublicKeys([public_key_of_jwk(dict(jwk))]), excerpt=True)
        for number, line in enumerate(_lines(self._path), 1):
            verifier.feed(number, line)
        report = verifier.report()
        if not (report.signature.ok and report.chain.ok and report.conservation.ok):
            self._problems.append(
                f"{self._path.name}: it does not verify; see: metering-agent verify --key KEY {self._path}"
            )
            return None
        if (report.org, report.agent) != (self._site.plant.org, self._site.plant.agent):
            self._problems.append(f"{self._path.name}: it is of {report.org}/{report.agent}")
            return None
        return self._made("export", {"position": _as_position(positions_of(_lines(self._path)))})

    def _by_type(self, typ: str) -> Iterable[bytes]:
        for line in _lines(self._path):
            try:
                if line and envelope.typ_of(line) == typ:
                    yield line
            except envelope.EnvelopeError:
                self._problems.append(f"{self._path.name}: a line in it is no message")
                return


def _as_position(found: Positions) -> dict[str, object]:
    return {
        "head": None if found.head is None else found.head.to_payload(),
        "heads": heads_to_payload(found.heads),
        "rev": found.rev,
        "at": text_of_ms(found.sealed_ms),
    }


def _keys_beside(evidence: Path) -> Iterator[PublicKey]:
    """The keys of an export: where the site's own key cannot be opened here, a person vouches for them."""
    for file in sorted(evidence.parent.glob("agent*.pem")):
        yield load_public_key(file)


def _payload(jws: bytes) -> bytes:
    try:
        return envelope.base64url_decode(jws.split(b".")[1].decode("ascii"))
    except ValueError:
        return b""


def _order_of(jws: bytes) -> tuple[int, int]:
    """What orders acknowledgements; one that cannot be read comes first. It is verified by the agent."""
    try:
        body = Members(strictjson.loads(_payload(jws), size_max=envelope.SIZE_MAX[envelope.ACKNOWLEDGEMENT]))
        return body.integer("gen"), body.integer("ack_no")
    except ValueError:
        return -1, -1


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while line := file.readline(LINE_BYTES_MAX + 2):
                yield line.strip()
    except OSError as error:
        raise ConfigError.of(path, f"cannot be read: {error.strerror}", "try again") from error


def _hash_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_READ_AT_ONCE):
            digest.update(piece)
    return digest.hexdigest()
