"""What lies on a stick that is carried between a gateway and a platform where there is no network at all.

    kwh+ORG+AGENT+v1/
      up/manifest.json             written last: without it the export was broken off
      up/CHAIN-BLOCK.jws           batches that the platform has not acknowledged, one signed message a line
      up/words.jws                 status, descriptor and, until the platform has answered once, the enrolment
      down/acknowledgements.jws    the platform's answers

Every line is a message as it would have gone over the network, so that nothing here has to be trusted: the manifest
only tells a whole export from a broken one. A block of batches is always the same bytes, so that a second export to the
same stick writes only what is new. One stick may serve many gateways; the plus signs, which no id has, keep them apart.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.reporting.wire import Members, WireError

UP, DOWN = "up", "down"
MANIFEST, WORDS, ANSWERS = "manifest.json", "words.jws", "acknowledgements.jws"
BLOCK = 256
"""Batches in one file; by their number in the chain, so that a file's name says what is in it."""
FOLDERS = "kwh+*+v1"
MANIFEST_BYTES_MAX = 4_000_000
PARTS_MAX = 20_000
SESSION_PREFIX = "courier-"
"""Questions by stick begin so: they are asked beside those of a connection and are no second gateway."""
_WHAT = "kwh courier"


def folder_name(org: str, agent: str) -> str:
    """The folder of one gateway."""
    return f"kwh+{org}+{agent}+v1"


def part_name(chain: str, seq: int) -> str:
    """The file in which a batch lies."""
    return f"{chain}-{seq // BLOCK:08d}.jws"


@dataclass(frozen=True, slots=True)
class Part:
    """One file of messages; `sha256` in hex."""

    name: str
    size: int
    sha256: str

    @classmethod
    def of(cls, name: str, data: bytes) -> "Part":
        """Describe a file's bytes."""
        return cls(name, len(data), hashlib.sha256(data).hexdigest())


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an export to a stick consists of, in the order in which it is to be read."""

    org: str
    agent: str
    aud: str
    made_at: str
    batches: int
    parts: Sequence[Part]

    def to_payload(self) -> dict[str, object]:
        """As it stands in the file."""
        return {
            "what": _WHAT,
            "version": 1,
            "org": self.org,
            "agent": self.agent,
            "aud": self.aud,
            "made_at": self.made_at,
            "batches": self.batches,
            "parts": [{"name": each.name, "bytes": each.size, "sha256": each.sha256} for each in self.parts],
        }

    @classmethod
    def from_payload(cls, payload: Mapping[str, object]) -> "Manifest":
        """Read it back. Raises WireError."""
        members = Members(payload)
        if members.text("what") != _WHAT or members.integer("version") != 1:
            raise WireError("$.version", "is not one that this version reads")
        entries = (Members(value, path) for value, path in members.items("parts", PARTS_MAX))
        parts = tuple(Part(_plain(each), each.integer("bytes"), each.text("sha256")) for each in entries)
        return cls(
            members.identifier("org"),
            members.identifier("agent"),
            members.text("aud"),
            members.text("made_at"),
            members.integer("batches"),
            parts,
        )


def _plain(members: Members) -> str:
    """A file name that leads nowhere else."""
    name = members.text("name", 64)
    if not name.endswith(".jws") or "/" in name or "\\" in name or name.startswith("."):
        raise WireError(members.place("name"), "is no name of a part")
    return name
