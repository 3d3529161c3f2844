"""Keys that end, begin and do neither."""

from tests.vectors.builder import (
    BATCH,
    CHAIN_B,
    DESCRIPTOR,
    ENROLMENT,
    GATEWAY,
    NEXT,
    STATUS,
    STRANGER,
    Json,
    Signing,
    jws,
    topic,
)
from tests.vectors.vector import (
    ALARMED,
    CHAIN,
    FORK,
    REJECTED,
    SIGNATURE,
    Group,
    Vector,
    basis,
    rotated,
    to_batch,
)


def make() -> Group:
    """Rotation."""
    group = Group(
        "Rotation: the event, signed by the old key, ends it after its batch in every chain; the new key proves itself."
    )
    _after_the_end(group)
    _proofs(group)
    return group


def _after_the_end(group: Group) -> None:
    line = rotated()
    deltas = line.minute(m1=1_000, m2=2_000)
    old = jws(line.batch(deltas), GATEWAY)

    def add(name: str, about: str, message: str, alarm: str, finding: str = "which ended") -> None:
        vector = Vector(
            name, about, to_batch(message), (SIGNATURE,), finding, REJECTED, alarm, before=4, basis="rotated"
        )
        group.add(vector)

    add("old-key-goes-on", "batch 5 signed by the key that ended with batch 3", old, "ended-key")
    copy = rotated()
    copy.open_chain(CHAIN_B, copy.head)
    message = jws(copy.batch([], [copy.event("restart", reason="restore"), *copy.carried()]), GATEWAY)
    add("old-key-in-another-chain", "a new chain signed by the key that ended", message, "ended-key")
    add(
        "stranger-after-a-rotation",
        "batch 5 signed by a key of neither",
        jws(line.batch(deltas), STRANGER),
        "unknown-key",
        "unknown-key",
    )
    rival = basis(1)
    message = jws(rival.batch(rival.minute(m1=9_000)), GATEWAY)
    vector = Vector(
        "old-key-rewrites-the-past",
        "another batch 2, signed by the key that was in force for it",
        to_batch(message),
        (CHAIN,),
        "fork",
        FORK,
        "fork",
        before=4,
        basis="rotated",
    )
    group.add(vector)
    early = basis(3)
    message = jws(early.batch(early.minute(m1=1_000)), NEXT)
    group.add(
        Vector(
            "next-key-too-early",
            "batch 4 signed by the next key, which no rotation has brought",
            to_batch(message),
            (SIGNATURE,),
            "unknown-key",
            REJECTED,
            "unknown-key",
        )
    )
    back = rotated()
    back.now_ms += 60_000
    message = jws(back.batch([], [back.rotation(GATEWAY)]), NEXT)
    group.add(
        Vector(
            "rotation-to-an-ended-key",
            "the key that ended is to sign again",
            to_batch(message),
            (SIGNATURE,),
            "ended before",
            ALARMED,
            "rotation",
            before=4,
            basis="rotated",
        )
    )
    status = jws(line.status(kid=GATEWAY.kid), GATEWAY, STATUS)
    group.add(
        Vector(
            "old-key-signs-a-status",
            "a status signed by the key that ended",
            [(topic(STATUS), status)],
            (),
            "",
            REJECTED,
            "ended-key",
            before=4,
            basis="rotated",
            read_by_verify=False,
        )
    )


def _proofs(group: Group) -> None:
    line = basis(3)
    line.now_ms += 60_000

    def enrolled(key: Signing = NEXT, typ: str = ENROLMENT, **change: object) -> str:
        return jws(line.enrolment(NEXT, **change), key, typ)

    def add(name: str, about: str, event: Json, finding: str = "not proved") -> None:
        message = jws(line.batch([], [event]))
        group.add(Vector(name, about, to_batch(message), (SIGNATURE,), finding, ALARMED, "rotation"))

    proof = enrolled()
    header, body, _ = proof.split(".")
    for name, about, event in (
        (
            "rotation-proof-of-a-stranger",
            "the proof is signed by another key",
            line.rotation(NEXT, enrolled(STRANGER)),
        ),
        (
            "rotation-proof-of-the-old-key",
            "the proof is signed by the old key",
            line.rotation(NEXT, enrolled(GATEWAY)),
        ),
        (
            "rotation-proof-forged",
            "the proof has the new key's kid and no good signature",
            line.rotation(NEXT, f"{header}.{body}.{'A' * 86}"),
        ),
        (
            "rotation-proof-of-another-kind",
            "the proof is a descriptor",
            line.rotation(NEXT, enrolled(typ=DESCRIPTOR)),
        ),
        (
            "rotation-proof-of-a-batch",
            "the proof is a batch signed by the new key",
            line.rotation(NEXT, jws(line.batch([]), NEXT, BATCH)),
        ),
        (
            "rotation-proof-of-another-gateway",
            "the proof speaks of another gateway",
            line.rotation(NEXT, enrolled(agent="gw02")),
        ),
        (
            "rotation-proof-of-another-org",
            "the proof speaks of another organisation",
            line.rotation(NEXT, enrolled(org="other")),
        ),
        (
            "rotation-proof-carries-another-key",
            "the proof carries another key than the one that signed it",
            line.rotation(NEXT, enrolled(jwk=STRANGER.jwk)),
        ),
        ("rotation-proof-no-jws", "the proof is no message", line.rotation(NEXT, "trust me")),
        (
            "rotation-key-of-another-size",
            "a public key of 31 bytes",
            line.rotation(NEXT, jwk={**NEXT.jwk, "x": NEXT.jwk["x"][:42]}),
        ),
        (
            "rotation-key-not-a-key",
            "a JWK without the key",
            line.rotation(NEXT, jwk={"kty": "OKP", "crv": "Ed25519"}),
        ),
        (
            "rotation-key-of-another-curve",
            "a key of another curve",
            line.rotation(NEXT, jwk={**NEXT.jwk, "crv": "X25519"}),
        ),
    ):
        add(name, about, event)
    add("rotation-to-itself", "the key rotates to itself", line.rotation(GATEWAY), "ended before")
    _goes_on_after_a_bad_proof(group)


def _goes_on_after_a_bad_proof(group: Group) -> None:
    """What proves nothing ends nothing: the batch between the two bad rotations counts."""
    line = basis(3)
    said = []
    for number in range(3):
        bad = [] if number == 1 else [line.rotation(NEXT, "trust me")]
        deltas = line.minute(m1=1_000, m2=2_000) if number == 1 else []
        said.append(line.say(deltas, bad))
    group.add(
        Vector(
            "rotation-unproved-ends-nothing",
            "a rotation without proof, a batch of the same key, and again a rotation without proof",
            to_batch(*said),
            (SIGNATURE,),
            "not proved",
            ALARMED,
            "rotation",
            booked={"m1": 4_000, "m2": 8_000},
        )
    )
