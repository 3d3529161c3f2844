"""Writes the vectors: `python -m tests.vectors.generate`. The same bytes in every run and on every machine.

What each vector must lead to is written by hand beside it, never taken from the code under test.
"""

import json
from pathlib import Path

from tests.vectors import (
    bad_chain,
    bad_energy,
    bad_envelope,
    bad_keys,
    bad_messages,
    bad_payload,
    good,
    tolerated,
)
from tests.vectors.builder import AUDIENCE, KEYS, Json
from tests.vectors.vector import BASES, Group

FOLDER = Path(__file__).parent
GROUPS = {
    "bad/acknowledgement.json": bad_messages.make_acknowledgements,
    "bad/chain.json": bad_chain.make,
    "bad/descriptor.json": bad_chain.make_descriptors,
    "bad/energy.json": bad_energy.make,
    "bad/envelope.json": bad_envelope.make,
    "bad/json.json": bad_payload.make_json,
    "bad/keys.json": bad_keys.make,
    "bad/members.json": bad_payload.make_members,
    "bad/others.json": bad_messages.make_others,
    "good/tolerated.json": tolerated.make,
}
WARNING = "TEST KEYS. Their private halves are published here on purpose: never register one, never sign anything real."


def files() -> dict[str, bytes]:
    """Every file by its name below this folder."""
    made = {name: _json(_group(make())) for name, make in GROUPS.items()}
    for name, base in BASES.items():
        made[f"bad/{name}.jws"] = _lines(base().log)
    life = good.make()
    made["good/chain.jws"] = _lines([message for _, message in life.lines])
    made["good/expected.json"] = _json({**life.expected, "says": [what for what, _ in life.lines]})
    made |= {f"good/{name}": _lines([message]) for name, message in life.others.items()}
    made |= {f"keys/{name}.pem": key.pem.encode() for name, key in KEYS.items()}
    made["keys/TEST-ONLY-private-keys.json"] = _json(
        {
            "warning": WARNING,
            "audience": AUDIENCE,
            "keys": {name: {**key.private_jwk, "kid": key.kid, "alg": key.alg} for name, key in KEYS.items()},
        }
    )
    return made


def _group(group: Group) -> Json:
    return {"about": group.about, "vectors": [vector.as_json() for vector in group.vectors]}


def _json(value: object) -> bytes:
    # ASCII, so that a lookalike letter in a vector is seen in every editor.
    return (json.dumps(value, indent=1) + "\n").encode()


def _lines(messages: list[str]) -> bytes:
    return "".join(f"{message}\n" for message in messages).encode()


def main() -> None:
    """Write what changed."""
    for name, content in files().items():
        path = FOLDER / name
        path.parent.mkdir(exist_ok=True)
        if not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)
            print(name)


if __name__ == "__main__":
    main()
