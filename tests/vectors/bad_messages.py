"""Bad messages of the other kinds: acknowledgements, descriptors and statuses; and good ones in the wrong place."""

import hashlib
import hmac

from tests.vectors.builder import (
    ACKNOWLEDGEMENT,
    BATCH,
    CHAIN_C,
    DESCRIPTOR,
    GATEWAY,
    NEIGHBOUR,
    PLATFORM,
    STATUS,
    STRANGER,
    Json,
    compact,
    jws,
    sha256,
    topic,
    without,
)
from tests.vectors.vector import CHAIN, NOTHING, REJECTED, SIGNATURE, Group, Vector, basis, to_batch

_AT_THE_EDGE = "rejected"


def make_acknowledgements() -> Group:
    """What would make an edge delete what nobody holds."""
    group = Group(
        "Acknowledgements, the only messages that an agent believes. The platform takes nothing from down/ack."
        " `edge` says what the agent does with them at its door."
    )
    line = basis(3)
    good = line.acknowledgement(1)

    def add(
        name: str, about: str, message: str, fails: str, finding: str, edge: str | None = _AT_THE_EDGE
    ) -> None:
        messages = [(topic(ACKNOWLEDGEMENT), message)]
        group.add(Vector(name, about, messages, (fails,), finding, NOTHING, edge=edge))

    header = {"alg": "Ed25519", "typ": ACKNOWLEDGEMENT, "kid": PLATFORM.kid}
    forged = jws(good, STRANGER, ACKNOWLEDGEMENT, header=header)
    add("ack-forged", "the platform's kid, a stranger's signature", forged, SIGNATURE, "signature")
    add(
        "ack-of-a-stranger",
        "signed by a key that nobody pinned",
        jws(good, STRANGER, ACKNOWLEDGEMENT),
        SIGNATURE,
        "unknown-key",
    )
    add(
        "ack-of-the-gateway",
        "signed by the gateway's own key",
        jws(good, GATEWAY, ACKNOWLEDGEMENT),
        SIGNATURE,
        "unknown-key",
    )
    confused = jws(
        good,
        PLATFORM,
        header={**header, "alg": "HS256"},
        sign=lambda data: hmac.new(PLATFORM.raw, data, hashlib.sha256).digest(),
    )
    add(
        "ack-hs256-public-key",
        "HS256 with the platform's public key as the secret",
        confused,
        SIGNATURE,
        "algorithm",
    )
    add(
        "ack-jwk",
        "a header that brings its own key",
        jws(good, STRANGER, header={**header, "jwk": STRANGER.jwk}),
        SIGNATURE,
        "header",
    )
    text = jws(good, PLATFORM, ACKNOWLEDGEMENT)
    add("ack-newline", "a newline inside", text[:90] + "\n" + text[90:], SIGNATURE, "malformed")
    for name, about, change in (
        ("ack-of-another-gateway", "speaks to another gateway", {"agent": "gw02"}),
        ("ack-of-another-org", "speaks to another organisation", {"org": "other"}),
    ):
        add(name, about, jws({**good, **change}, PLATFORM, ACKNOWLEDGEMENT), CHAIN, "belongs to")
    # These pass the door, because only the journal knows; there they purge nothing.
    of_the_journal: tuple[tuple[str, str, str, Json], ...] = (
        ("ack-other-hash", "names another batch 3", "another hash", {"acked_hash": sha256("other")}),
        (
            "ack-ahead",
            "acknowledges a batch 4 that the file does not have",
            "is not in the file",
            {"acked_seq": 4, "acked_hash": sha256("4")},
        ),
        (
            "ack-far-ahead",
            "acknowledges everything that may ever come",
            "is not in the file",
            {"acked_seq": 2**53 - 1},
        ),
        (
            "ack-of-another-chain",
            "acknowledges a chain that the file does not have",
            "is not in the file",
            {"chain": CHAIN_C},
        ),
    )
    for name, about, finding, change in of_the_journal:
        add(name, about, jws({**good, **change}, PLATFORM, ACKNOWLEDGEMENT), CHAIN, finding, None)
    optional = ("session", "heads", "rev")
    for member in without(good, *optional):
        add(
            f"ack-without-{member}",
            f"an acknowledgement without {member}",
            jws(without(good, member), PLATFORM, ACKNOWLEDGEMENT),
            CHAIN,
            "not placed",
        )
    head = line.heads()
    changes: tuple[tuple[str, str, Json], ...] = (
        ("ack-half-a-head", "a head without its number", {"acked_seq": None}),
        ("ack-seq-0", "batch 0", {"acked_seq": 0}),
        ("ack-negative-gen", "a negative generation", {"gen": -1}),
        ("ack-need-33", "more than 32 ranges", {"need": [[1, 1]] * 33}),
        ("ack-need-backwards", "a range that ends before it begins", {"need": [[5, 4]]}),
        ("ack-need-0", "asks for a batch 0", {"need": [[0, 4]]}),
        ("ack-need-pairs", "a range of three", {"need": [[1, 2, 3]]}),
        ("ack-held-pair", "a held delta without its number", {"held": [["m1", 1]]}),
        ("ack-refused-text", "refused chains as a text", {"refused": "all"}),
        ("ack-refused-id", "a refused chain that is no chain", {"refused": ["*"]}),
        ("ack-heads-id", "a head of a meter that is not an id", {"heads": {"m 1": head["m1"]}, "rev": 1}),
        ("ack-heads-without-n", "a head without n", {"heads": {"m1": without(head["m1"], "n")}, "rev": 1}),
        ("ack-v2", "another major version", {"v": "2.0"}),
        ("ack-stored-at", "a time without milliseconds", {"stored_at": "2025-10-09T08:53:20Z"}),
    )
    for name, about, change in changes:
        add(name, about, jws({**good, **change}, PLATFORM, ACKNOWLEDGEMENT), CHAIN, "not placed")
    fraction = compact(good).replace(b'"acked_seq":3', b'"acked_seq":3.0')
    add("ack-fraction", "batch 3.0", jws(fraction, PLATFORM, ACKNOWLEDGEMENT), CHAIN, "not placed")
    twice = compact(good).replace(b'"acked_seq":3', b'"acked_seq":1,"acked_seq":3')
    add(
        "ack-duplicate-key",
        "two heads in one acknowledgement",
        jws(twice, PLATFORM, ACKNOWLEDGEMENT),
        CHAIN,
        "not placed",
    )
    return group


def make_others() -> Group:
    """Descriptors and statuses on their own topics, and topics themselves."""
    group = Group(
        "Descriptors and statuses on their retained topics, and good messages in a wrong place. A file of evidence"
        " has no topics, and `verify` reads nothing out of a status; `verify` is null where it has no say."
    )
    _descriptors(group)
    _statuses(group)
    _topics(group)
    return group


def _descriptors(group: Group) -> None:
    line = basis(3)
    line.now_ms += 60_000
    good = line.descriptor_payload(rev=2)

    def add(name: str, about: str, message: str, fails: str, finding: str, alarm: str) -> None:
        where = [(topic(DESCRIPTOR), message)]
        group.add(Vector(name, about, where, (fails,), finding, REJECTED, alarm))

    def sealed(payload: object) -> str:
        return jws(payload, GATEWAY, DESCRIPTOR)

    add(
        "desc-of-a-stranger",
        "a map signed by a stranger",
        jws(good, STRANGER, DESCRIPTOR),
        SIGNATURE,
        "unknown-key",
        "unknown-key",
    )
    add(
        "desc-of-another-gateway",
        "the map of gw02",
        sealed({**good, "agent": "gw02"}),
        CHAIN,
        "belongs to",
        "schema",
    )
    for member in good:
        add(
            f"desc-without-{member}",
            f"a map without {member}",
            sealed(without(good, member)),
            CHAIN,
            "not placed",
            "schema",
        )
    m1, m2 = good["meters"]
    for member in m1:
        payload = {**good, "meters": [without(m1, member), m2]}
        add(
            f"desc-meter-without-{member}",
            f"a meter without {member}",
            sealed(payload),
            CHAIN,
            "not placed",
            "schema",
        )
    for member in m1["steps"][0]:
        payload = {**good, "meters": [{**m1, "steps": [without(m1["steps"][0], member)]}, m2]}
        add(
            f"desc-share-without-{member}",
            f"a share without {member}",
            sealed(payload),
            CHAIN,
            "not placed",
            "schema",
        )
    add(
        "desc-duplicate-key",
        "two lists of meters",
        sealed(compact(good)[:-1] + b',"meters":[]}'),
        CHAIN,
        "not placed",
        "payload",
    )


def _statuses(group: Group) -> None:
    line = basis(3)
    good = line.status()

    def add(name: str, about: str, message: str, alarm: str, fails: str = "", finding: str = "") -> None:
        verdicts = (fails,) if fails else ()
        where = [(topic(STATUS), message)]
        group.add(Vector(name, about, where, verdicts, finding, REJECTED, alarm, read_by_verify=bool(fails)))

    def sealed(payload: object) -> str:
        return jws(payload, GATEWAY, STATUS)

    add(
        "status-of-a-stranger",
        "a stranger says that the gateway is offline",
        jws({**good, "state": "offline"}, STRANGER, STATUS),
        "unknown-key",
        SIGNATURE,
        "unknown-key",
    )
    add("status-of-another-gateway", "speaks for gw02", sealed({**good, "agent": "gw02"}), "misdirected")
    for member in without(good, "heads"):
        add(f"status-without-{member}", f"a status without {member}", sealed(without(good, member)), "schema")
    changes: tuple[tuple[str, str, Json], ...] = (
        ("status-state", "a state that does not exist", {"state": "asleep"}),
        ("status-mode", "a mode that does not exist", {"mode": "none"}),
        ("status-need-heads-text", "a wish as a text", {"need_heads": "false"}),
        ("status-session-long", "a session of 65 characters", {"session": "s" * 65}),
        ("status-head-without-hash", "a head without its hash", {"head": {"seq": 3}}),
    )
    for name, about, change in changes:
        add(name, about, sealed({**good, **change}), "schema")


def _topics(group: Group) -> None:
    line = basis(3)
    payload = line.batch(line.minute(m1=1_000, m2=2_000))
    good = jws(payload)

    def add(name: str, about: str, where: str, message: str, platform: str, alarm: str | None) -> None:
        group.add(Vector(name, about, [(where, message)], (), "", platform, alarm, read_by_verify=False))

    add(
        "topic-of-the-neighbour",
        "our batch on the topic of gw02",
        topic(BATCH, agent="gw02"),
        good,
        REJECTED,
        "unknown-key",
    )
    add(
        "topic-of-nobody",
        "our batch on the topic of a gateway that is not registered",
        topic(BATCH, agent="gw99"),
        good,
        REJECTED,
        "unknown-agent",
    )
    add("topic-of-the-status", "our batch on our status topic", topic(STATUS), good, REJECTED, "header")
    add(
        "topic-of-another-version",
        "our batch on a topic of version 2",
        topic(BATCH).replace("v1", "v2"),
        good,
        NOTHING,
        None,
    )
    add("topic-too-deep", "our batch one level deeper", topic(BATCH) + "/x", good, NOTHING, None)
    other = jws({**payload, "agent": "gw02"}, NEIGHBOUR)
    group.add(
        Vector(
            "topic-neighbour-sends-here",
            "the neighbour's good batch on our topic",
            to_batch(other),
            (SIGNATURE,),
            "unknown-key",
            REJECTED,
            "unknown-key",
        )
    )
