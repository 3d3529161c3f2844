"""Validly signed batches that do not stand where they say: gaps, forks, clones, wrong restores."""

from tests.vectors.builder import (
    AUDIENCE,
    CHAIN_B,
    CHAIN_C,
    DESCRIPTOR,
    GATEWAY,
    STRANGER,
    Json,
    Line,
    compact,
    hash_of,
    jws,
    meter,
    sha256,
    without,
)
from tests.vectors.vector import (
    ALARMED,
    CHAIN,
    CONSERVATION,
    EVIDENCE,
    FORK,
    NOTHING,
    REFUSED,
    REJECTED,
    SIGNATURE,
    STAGED,
    Group,
    Vector,
    basis,
    to_batch,
)


def make() -> Group:
    """Places in the chain, successor chains, addresses."""
    group = Group("Signed by the gateway and well formed, and not the batch that stands there.")
    _places(group)
    _successors(group)
    _addresses(group)
    group.add(
        Vector(
            "empty",
            "no batch at all: a file that proves nothing",
            [],
            (CHAIN,),
            "holds no batch",
            NOTHING,
            before=0,
        )
    )
    return group


def _places(group: Group) -> None:
    def add(name: str, about: str, message: str, finding: str, platform: str, before: int = 3) -> None:
        # What is missing was energy, too.
        fails = (CHAIN, CONSERVATION) if name.startswith("gap") else (CHAIN,)
        alarm = "fork" if platform == FORK else None
        group.add(Vector(name, about, to_batch(message), fails, finding, platform, alarm, before=before))

    add("gap", "batch 5 after batch 3", basis(5).log[4], "missing", STAGED)
    add("gap-of-many", "batch 9 after batch 3", basis(9).log[8], "missing", STAGED)
    rival = basis(3)
    rival.now_ms += 60_000
    message = jws(rival.batch([rival.delta("m1", 7_000)]))
    add("fork-other-energy", "another batch 4, with more energy", message, "fork", FORK, before=4)
    twin = basis(3)
    payload = twin.batch(twin.minute(m1=1_000, m2=2_000), iat="2025-10-09T09:30:00.000Z")
    add(
        "fork-other-time",
        "batch 4 sealed again at another time: nothing is ever signed again",
        jws(payload),
        "fork",
        FORK,
        before=4,
    )
    past = basis(1)
    message = jws(past.batch(past.minute(m1=9_000)))
    add("fork-in-the-past", "another batch 2, after batch 3 was taken", message, "fork", FORK)
    line = basis(3)
    last = line.log[-1]
    deltas = line.minute(m1=1_000, m2=2_000)
    for name, about, prev in (
        ("prev-of-batch-2", "its prev is the batch before the last", hash_of(line.log[1])),
        ("prev-of-the-whole-token", "prev made over the whole token, signature included", sha256(last)),
        ("prev-of-the-payload", "prev made over the payload only", sha256(last.split(".")[1])),
        ("prev-of-the-header", "prev made over the header only", sha256(last.split(".")[0])),
        (
            "prev-with-newline",
            "prev made over the signing input and a newline",
            sha256(last.rpartition(".")[0] + "\n"),
        ),
        ("prev-of-nothing", "prev is the hash of no text", sha256("")),
        ("prev-of-the-descriptor", "prev as in a first batch", line.cfg),
    ):
        add(name, about, jws(line.batch(deltas, prev=prev)), "fork: its prev", FORK)
    other = jws(line.batch(deltas, chain=CHAIN_C))
    add("chain-changed", "batch 4 of a chain that never began", other, "missing", STAGED)


def _successors(group: Group) -> None:
    def add(
        name: str, about: str, messages: list[str], finding: str, platform: str, alarm: str | None
    ) -> None:
        group.add(Vector(name, about, to_batch(*messages), (CHAIN,), finding, platform, alarm))

    head = basis(3).head
    refused = "refused-chain"
    for name, about, prev_chain, platform, alarm in (
        (
            "successor-of-nothing",
            "a gateway with a history begins anew as if it had none",
            None,
            REFUSED,
            refused,
        ),
        (
            "successor-of-an-older-head",
            "a journal restored from a backup goes on by itself",
            basis(2).head,
            REFUSED,
            refused,
        ),
        (
            "successor-of-another-hash",
            "it names another batch 3",
            {**head, "hash": sha256("other")},
            REFUSED,
            refused,
        ),
        (
            "successor-of-the-future",
            "it names a batch 9 that nobody has seen",
            {**head, "seq": 9},
            STAGED,
            None,
        ),
        (
            "successor-of-a-strange-chain",
            "it names a chain that nobody has seen",
            {**head, "chain": CHAIN_C},
            STAGED,
            None,
        ),
    ):
        add(
            name,
            about,
            [_first(CHAIN_B, prev_chain).log[-1]],
            "prev_chain is not the last batch",
            platform,
            alarm,
        )
    one, two = _first(CHAIN_B, head), _first(CHAIN_C, head)
    add(
        "clone",
        "two copies of one disk: two chains of one key behind one head, the second one loses",
        [one.log[0], two.log[0]],
        "prev_chain is not the last batch",
        REFUSED,
        refused,
    )
    add(
        "closed-chain-goes-on",
        "batch 4 of a chain that another one has succeeded",
        [one.log[0], basis(4).log[3]],
        "not counted",
        EVIDENCE,
        "closed-chain",
    )
    lost = _first(CHAIN_B, None)
    lost.now_ms += 60_000
    lost.say([])
    add(
        "refused-chain-goes-on", "batch 2 of a refused chain", lost.log, "prev_chain is not", REFUSED, refused
    )
    odd = basis(3)
    odd.seal(None, jws(b'{"v":"1.0","seq":4.5}'))
    follower = odd.copy()
    follower.now_ms += 60_000
    follower.say([])
    add(
        "after-an-unparsable-batch",
        "it follows a batch that cannot be read",
        follower.log[3:],
        "not placed",
        REFUSED,
        refused,
    )
    add(
        "chain-after-an-unparsable-batch",
        "its chain follows a batch that cannot be read",
        [odd.log[3], _first(CHAIN_B, odd.head).log[0]],
        "not placed",
        REFUSED,
        refused,
    )


def _first(chain: str, prev_chain: Json | None) -> Line:
    """A gateway whose history goes on in another chain."""
    line = basis(3)
    line.log = []
    line.open_chain(chain, prev_chain)
    line.now_ms += 60_000
    line.say([], [line.event("restart", reason="restore"), *line.carried()])
    return line


def _addresses(group: Group) -> None:
    line = basis(3)
    deltas = line.minute(m1=1_000, m2=2_000)
    changes: tuple[tuple[str, str, Json], ...] = (
        ("audience-other", "sealed for another platform", {"aud": "carbon.other.example"}),
        ("audience-longer", "an audience that only begins like ours", {"aud": AUDIENCE + ".attacker"}),
        ("audience-upper-case", "an audience in capital letters", {"aud": AUDIENCE.upper()}),
        ("org-other", "sealed for another organisation", {"org": "other"}),
        ("agent-other", "says that it is another gateway", {"agent": "gw02"}),
    )
    for name, about, change in changes:
        message = jws(line.batch(deltas, **change))
        group.add(Vector(name, about, to_batch(message), (CHAIN,), "belongs to", REJECTED, "misdirected"))


# ---------------------------------------------------------------------------- descriptors inside the chain


def make_descriptors() -> Group:
    """Meter maps that are carried inside the chain."""
    group = Group(
        "The meter map that the chain carries: torn, forged or impossible. The batches around it are good, so they are"
        " taken; the map is not."
    )
    _torn(group)
    _impossible(group)
    return group


def _add(
    group: Group,
    name: str,
    about: str,
    message: str,
    verdict: str,
    finding: str,
    before: int = 3,
    **booked: int,
) -> None:
    # A part that is out of range leaves its descriptor unfinished as well.
    fails = (SIGNATURE, CHAIN) if name == "descriptor-part-beyond" else (verdict,)
    vector = Vector(
        name,
        about,
        to_batch(message),
        fails,
        finding,
        ALARMED,
        "descriptor",
        before=before,
        booked=booked or None,
    )
    group.add(vector)


def _torn(group: Group) -> None:
    line = basis(0)
    line.now_ms += 60_000
    first, second = line.carried(parts=2)
    energy = line.copy().minute(m1=1_000)
    torn = "is not in the file"
    _add(
        group,
        "descriptor-part-missing",
        "half of the map, and energy under it",
        jws(line.batch(energy, [first])),
        CHAIN,
        torn,
        0,
        m1=1_000,
    )
    nothing = jws(line.batch(energy, []))
    _add(
        group,
        "descriptor-never-carried",
        "a first batch without any map",
        nothing,
        CHAIN,
        "prev is not the hash",
        0,
        m1=1_000,
    )
    carried = line.carried()
    for name, about, verdict, finding, events in (
        (
            "descriptor-part-changed",
            "a part with another letter",
            SIGNATURE,
            "have another hash",
            [first, {**second, "text": "A" + second["text"][1:]}],
        ),
        (
            "descriptor-parts-exchanged",
            "both parts, each in the other's place",
            SIGNATURE,
            "",
            [{**first, "text": second["text"]}, {**second, "text": first["text"]}],
        ),
        ("descriptor-part-beyond", "part 3 of 2", SIGNATURE, "part 3 of 2", [{**first, "part": 3}]),
        (
            "descriptor-not-a-jws",
            "a text that is no message",
            SIGNATURE,
            "",
            [{**carried[0], "text": "hello"}],
        ),
        (
            "descriptor-forged",
            "a map signed by a stranger",
            SIGNATURE,
            "unknown-key",
            _carried_by(line, jws(line.descriptor_payload(), STRANGER, DESCRIPTOR)),
        ),
        (
            "descriptor-of-another-kind",
            "a batch in the place of the map",
            SIGNATURE,
            "header",
            _carried_by(line, basis(1).log[0]),
        ),
    ):
        prev = events[0]["hash"]
        _add(group, name, about, jws(line.batch([], events, prev=prev, cfg=prev)), verdict, finding, 0)
    message = jws(line.batch([], carried, prev=sha256("no descriptor")))
    _add(
        group,
        "first-prev-is-no-descriptor",
        "the first batch is not tied to the map that it carries",
        message,
        CHAIN,
        "prev is not the hash",
        0,
    )
    later = basis(3)
    deltas = later.minute(m1=1_000)
    message = jws(later.batch(deltas, cfg=sha256("another map")))
    _add(
        group,
        "cfg-unknown",
        "energy under a map that was never carried",
        message,
        CHAIN,
        torn,
        m1=4_000,
        m2=6_000,
    )


def _carried_by(line: Line, text: str) -> list[Json]:
    return [line.event("descriptor", rev=1, hash=hash_of(text), part=1, parts=1, text=text)]


def _impossible(group: Group) -> None:
    line = basis(3)
    line.now_ms += 60_000
    good = line.descriptor_payload(rev=2)
    m1, m2 = good["meters"]
    half = {"step": "a", "num": 2, "den": 3}

    def changed(**change: object) -> Json:
        return {**good, "meters": [{**m1, **change}, m2]}

    for name, about, finding, payload in (
        ("map-of-another-gateway", "the map of gw02", "belongs to", {**good, "agent": "gw02"}),
        (
            "map-shares-beyond-1",
            "shares that add up to more than 1 count a kWh twice",
            "more than 1",
            changed(steps=[half, {**half, "step": "b"}]),
        ),
        ("map-step-twice", "a step twice", "twice", changed(steps=[{**half, "den": 9}, {**half, "den": 9}])),
        ("map-share-0", "a share of nothing", "not in 1..", changed(steps=[{**half, "num": 0}])),
        ("map-meter-twice", "a meter twice", "twice", {**good, "meters": [m1, m1]}),
        ("map-ratio-0", "a ratio of zero", "not in 1..", changed(num=0)),
        ("map-denominator-0", "a division by zero", "not in 1..", changed(den=0)),
        ("map-modulus-0", "a modulus of zero", "not in 1..", changed(modulus=0)),
        ("map-role", "a role that does not exist", "is none of", changed(role="spare")),
        ("map-parent", "a parent that is not an id", "not a parent", changed(parent="a/b/c")),
        ("map-serial-number", "a serial number as a number", "must be a text", changed(serial=12345)),
        ("map-profile-hash", "a profile without its hash", "not a hash", changed(profile_hash="")),
        ("map-rev-0", "revisions begin at 1", "not in 1..", {**good, "rev": 0}),
        ("map-without-meters", "no list of meters", "is missing", without(good, "meters")),
        (
            "map-unknown-left-out",
            "what is unknown is null, never left out",
            "is missing",
            {**good, "meters": [without(m1, "modulus"), m2]},
        ),
        ("map-fraction", "a ratio with a fraction", "not an integer", changed(num="@")),
    ):
        raw = jws(payload, GATEWAY, DESCRIPTOR)
        if name == "map-fraction":
            raw = jws(_with_fraction(payload), GATEWAY, DESCRIPTOR)
        _add(group, name, about, jws(line.batch([], _carried_by(line, raw))), CHAIN, finding)
    again = line.copy()
    again.rev = 0
    again.describe([meter("m1", serial="other"), m2])
    message = jws(again.batch([], again.carried(), cfg=line.cfg))
    _add(
        group,
        "map-revision-not-risen",
        "another map with the same revision",
        message,
        CHAIN,
        "revision 1 after revision 1",
    )


def _with_fraction(payload: Json) -> bytes:
    return compact(payload).replace(b'"num":"@"', b'"num":10000.0')
