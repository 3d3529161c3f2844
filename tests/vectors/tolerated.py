"""What must not be refused: odd messages that every reader has to take."""

from tests.vectors.builder import BATCH, GATEWAY, MODULUS, compact, jws
from tests.vectors.vector import BOOKED, NOTHING, Group, Vector, basis, to_batch

_LARGEST = 2**53 - 1
_BATCH_BYTES_MAX = 48 * 1024


def make() -> Group:
    """Repeats, additions of later versions, limits."""
    group = Group("Odd and good: every reader has to take these. A reader that refuses one is too strict.")
    line = basis(3)
    deltas = line.minute(m1=1_000, m2=2_000)
    payload = line.batch(deltas)

    def add(name: str, about: str, *messages: str, m1: int = 4_000, m2: int = 8_000) -> None:
        booked = {"m1": m1, "m2": m2}
        group.add(Vector(name, about, to_batch(*messages), (), "", BOOKED, booked=booked))

    def nothing(name: str, about: str, message: str) -> None:
        group.add(Vector(name, about, to_batch(message), (), "", NOTHING, before=4))

    again = basis(4).log[3]
    nothing("repeat", "batch 4 again, byte for byte", again)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    twin = again[:-1] + alphabet[alphabet.index(again[-1]) ^ 1]
    nothing(
        "repeat-with-another-last-character",
        "the last character of a signature has unused bits; they are outside the hash and fork nothing",
        twin,
    )
    nothing("repeat-of-an-old-batch", "batch 1 again", basis(4).log[0])
    newer = {**payload, "v": "1.7", "weather": {"cloudy": True}}
    newer["deltas"] = [{**delta, "phase": [1, 2, 3]} for delta in deltas]
    add("newer-minor-version", "unknown members of a later minor version", jws(newer))
    unknown = line.event("firmware", version="2.1", meter="m1")
    add("newer-event", "an event of a later version", jws({**payload, "events": [unknown]}))
    flagged = [{**deltas[0], "q": ["gap", "zz-later"]}, deltas[1]]
    add(
        "newer-flag",
        "a flag of a later version: counted, shown as suspect",
        jws({**payload, "deltas": flagged}),
    )
    reordered = {"typ": BATCH, "kid": GATEWAY.kid, "alg": "Ed25519"}
    add("header-in-another-order", "the same three members, and so signed", jws(payload, header=reordered))
    add(
        "payload-with-spaces",
        "JSON with escapes, and so signed",
        jws(compact(payload).replace(b'"1.0.0"', b' "\\u0031.0.0"\n')),
    )
    add("empty-batch", "nothing to say", jws({**payload, "deltas": []}), m1=3_000, m2=6_000)
    zero = basis(3)
    add("zero", "a meter that stood still", jws(zero.batch(zero.minute(m1=0, m2=0))), m1=3_000, m2=6_000)
    backwards = [{**delta, "end": "2025-10-09T08:00:00.000Z", "q": ["clock"]} for delta in deltas]
    add("clock-went-back", "it ends before it starts, and says so", jws({**payload, "deltas": backwards}))
    rolling = basis(3)
    message = jws(rolling.batch(rolling.minute(m1=MODULUS - 100, m2=2_000)))
    add("rollover", "nearly once around", message, m1=3_000 + MODULUS - 100)
    closing = basis(3)
    closing.now_ms += 60_000
    ended = closing.epoch("m1", 0)
    listed = {**{name: ended[name] for name in ended if name not in ("type", "at", "meter")}, "n_last": 3}
    closing.say([], [ended])
    deltas = closing.minute(m1=1_000, m2=2_000)
    balance = {**closing.balance("m1", 1, 0, 1_000), "closed": [{**listed, "n_last": 0, "weather": "dry"}]}
    add(
        "balance-lists-a-closed-epoch",
        "as its event told it, with a member of a later version; its last number is not known",
        closing.log[3],
        jws(closing.batch(deltas, [balance])),
    )
    large = basis(3)
    rise = _LARGEST - large.registers["m2"].value
    message = jws(large.batch(large.minute(m1=1_000, m2=rise)))
    add("largest-register", "a register of 2^53-1", message, m2=6_000 + rise)
    text = line.event("restart", reason="\u7535\u8868 \u2713 \U0001f50c" + "x" * 240)
    add(
        "any-text", "characters outside ASCII and outside the basic plane", jws({**payload, "events": [text]})
    )
    deep: object = 0
    for _ in range(15):
        deep = [deep]
    add("depth-16", "nested 16 deep", jws({**payload, "more": deep}))
    full = {**payload, "more": ""}
    full["more"] = "x" * ((_BATCH_BYTES_MAX - len(jws(full))) * 3 // 4)
    message = jws(full)
    assert _BATCH_BYTES_MAX - 3 <= len(message) <= _BATCH_BYTES_MAX
    add("largest-batch", "a batch of just 48 KiB", message)
    return group
