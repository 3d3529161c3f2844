"""Good signatures, good chains, wrong energy: deltas, epochs and balances that do not add up."""

from tests.vectors.builder import MODULUS, Json, Line, jws
from tests.vectors.vector import ALARMED, CONSERVATION, HELD, Group, Vector, basis, to_batch


def make() -> Group:
    """Rules V1 to V5."""
    group = Group(
        "Rules V1 to V5 of the wire format. Such batches are taken, because nothing signed is dropped; what does"
        " not add up is held or alarmed and never booked twice."
    )
    _single_deltas(group)
    _runs(group)
    _epochs(group)
    _balances(group)
    _closings(group)
    _corrections(group)
    return group


def _add(
    group: Group,
    name: str,
    about: str,
    messages: list[str],
    finding: str,
    platform: str,
    alarm: str = "held",
    m1: int = 3_000,
    before: int = 3,
    **others: int,
) -> None:
    booked = {"m1": m1, "m2": 6_000, **others} if before else {"m1": m1, **others}
    made = Vector(
        name,
        about,
        to_batch(*messages),
        (CONSERVATION,),
        finding,
        platform,
        alarm,
        before=before,
        booked=booked,
    )
    group.add(made)


def _single_deltas(group: Group) -> None:
    line = basis(3)
    line.now_ms += 60_000
    good = line.copy().delta("m1", 1_000)
    start = good["reg_start"]
    other = line.copy().delta("m2", 1_000)
    for name, about, delta in (
        ("v1-too-much", "1 more than its registers say", {**good, "delta": 1_001}),
        ("v1-too-little", "1 less than its registers say", {**good, "delta": 999}),
        ("v1-nothing", "the registers rose, the delta is zero", {**good, "delta": 0}),
        ("v1-thousandfold", "a delta in another unit", {**good, "delta": 1_000_000}),
        ("v1-fall", "a register that fell, as energy", {**good, "reg_end": start - 1_000, "delta": 1_000}),
        (
            "v1-roll-too-small",
            "a rollover at a tenth of the modulus",
            {
                **good,
                "reg_end": start + 1_000 - MODULUS // 10 if start > MODULUS // 10 else 0,
                "delta": MODULUS // 10 - start,
                "roll": MODULUS // 10,
            },
        ),
        (
            "v1-roll-off-by-one",
            "a rollover at 1 below the modulus",
            {**good, "reg_end": 500, "delta": MODULUS - 1 - start + 500, "roll": MODULUS - 1},
        ),
        ("v1-roll-doubled", "twice around", {**good, "delta": 2 * MODULUS + 1_000, "roll": 2 * MODULUS}),
        ("v1-roll-not-in-the-sum", "a rollover that is not counted", {**good, "roll": MODULUS}),
        (
            "v1-roll-without-modulus",
            "a rollover of a meter whose modulus nobody knows",
            {**other, "reg_end": 0, "delta": MODULUS - other["reg_start"], "roll": MODULUS},
        ),
    ):
        _add(group, name, about, [jws(line.batch([delta]))], "V1", HELD)


def _runs(group: Group) -> None:
    line = basis(3)
    line.now_ms += 60_000
    good = line.copy().delta("m1", 1_000)
    start, end = good["reg_start"], good["reg_end"]
    held: tuple[tuple[str, str, Json], ...] = (
        ("v2-n-skipped", "a delta is missing", {**good, "n": 5}),
        ("v2-n-far-ahead", "a million deltas are missing", {**good, "n": 1_000_004}),
        (
            "v2-hole",
            "it begins above the register before it: energy has vanished",
            {**good, "reg_start": start + 500, "delta": 500},
        ),
        (
            "v2-overlap",
            "it begins below the register before it: energy twice",
            {**good, "reg_start": start - 500, "delta": 1_500},
        ),
    )
    for name, about, delta in held:
        _add(group, name, about, [jws(line.batch([delta]))], "V2", HELD)
    late = {**good, "start": "2025-10-09T08:53:30.000Z"}
    message = jws(line.batch([late]))
    _add(
        group,
        "v2-time",
        "it does not start when the one before it ended",
        [message],
        "V2",
        ALARMED,
        "time",
        m1=4_000,
    )
    repeated = basis(2).copy()
    twice = repeated.minute(m1=1_000)[0]
    message = jws(line.batch([twice]))
    _add(
        group, "v2-again", "a delta of batch 3 again in batch 4", [message], "not counted", ALARMED, "repeat"
    )
    more = {**twice, "reg_end": end, "delta": twice["delta"] + 1_000}
    message = jws(line.batch([more]))
    _add(
        group,
        "v2-again-with-more",
        "the same delta again, with more energy",
        [message],
        "not counted",
        ALARMED,
        "repeat",
    )
    message = jws(line.batch([good, good]))
    _add(
        group,
        "v2-twice-in-a-batch",
        "a delta twice in one batch",
        [message],
        "not counted",
        ALARMED,
        "repeat",
        m1=4_000,
    )
    message = jws(line.batch([{**good, "step": "wave_soldering"}]))
    _add(
        group,
        "step-other",
        "a step that the map does not give it",
        [message],
        "says step",
        ALARMED,
        "step",
        m1=4_000,
    )
    message = jws(line.batch([{**good, "meter": "m9", "n": 1}]))
    _add(
        group,
        "meter-unknown",
        "a meter that the map does not know",
        [message],
        "does not know",
        ALARMED,
        "descriptor",
        m9=1_000,
    )
    first = basis(0)
    first.now_ms += 60_000
    opened = first.copy().delta("m1", 1_000)
    for name, about, delta in (
        ("v2-first-n", "a meter's first delta ever is number 2", {**opened, "n": 2}),
        ("v2-first-epoch", "a meter's first delta ever is of epoch 2", {**opened, "epoch": 2}),
    ):
        message = jws(first.batch([delta], first.carried()))
        _add(group, name, about, [message], "first delta must be", ALARMED, "epoch", m1=1_000, before=0)


def _epochs(group: Group) -> None:
    def line_with(event: Json | None = None) -> Line:
        line = basis(3)
        line.now_ms += 60_000
        return line

    line = line_with()
    delta = {**line.copy().delta("m1", 1_000), "epoch": 2, "n": 1, "reg_start": 70, "reg_end": 1_070}
    message = jws(line.batch([delta]))
    _add(group, "v4-no-event", "a new epoch without its event", [message], "V4", ALARMED, "epoch", m1=4_000)
    event = line.copy().epoch("m1", 0)
    last = event["last"]
    for name, about, change, energy in (
        (
            "v4-last-too-high",
            "the event's last register lies above the last delta",
            {"last": last + 500},
            3_500,
        ),
        (
            "v4-last-too-low",
            "the event's last register lies below the last delta",
            {"last": last - 500},
            3_000,
        ),
        ("v4-epoch-skipped", "from epoch 1 to epoch 3", {"epoch_to": 3}, 3_000),
        ("v4-epoch-same", "from epoch 1 to epoch 1", {"epoch_to": 1}, 3_000),
        ("v4-epoch-backwards", "from epoch 2 to epoch 1", {"epoch_from": 2, "epoch_to": 1}, 3_000),
        ("v4-other-epoch", "it ends an epoch that is not open", {"epoch_from": 4, "epoch_to": 5}, 3_000),
    ):
        message = jws(line.batch([], [{**event, **change}]))
        _add(group, name, about, [message], "V4", ALARMED, "epoch", m1=energy)
    twice = line_with()
    opened = twice.epoch("m1", 0)
    twice.say([], [opened])
    twice.now_ms += 60_000
    _add(
        group,
        "v4-again",
        "an epoch ends twice",
        [twice.log[3], jws(twice.batch([], [opened]))],
        "V4",
        ALARMED,
        "epoch",
    )
    late = basis(3).minute(m1=1_000)
    _add(
        group,
        "v4-old-epoch-goes-on",
        "a delta of an epoch that has ended",
        [twice.log[3], jws(twice.batch(late))],
        "not counted",
        ALARMED,
        "repeat",
    )


def _balances(group: Group) -> None:
    line = basis(3)
    line.now_ms += 60_000
    good = line.balance("m1", 1, 500_000, 3_000)
    for name, about, change in (
        ("v5-sum", "a sum that is 1 less", {"sum": 2_999}),
        (
            "v5-agrees-with-itself",
            "it agrees with itself and not with the deltas",
            {"reg_first": 500_500, "sum": 2_500},
        ),
        ("v5-disagrees-with-itself", "the right sum, a wrong last register", {"reg_last": 504_000}),
        ("v5-wrong-roll", "a rollover that the deltas do not have", {"reg_first": 501_000, "roll": 1_000}),
        ("v5-wrong-n", "the sum of three deltas, said of two", {"n_last": 2}),
        ("v5-future", "it sums deltas that were never sent", {"n_last": 9}),
        ("v5-other-epoch", "it sums an epoch that never was", {"epoch": 7}),
        ("v5-other-meter", "it sums a meter that never was", {"meter": "m9"}),
        ("v5-backwards", "its first delta comes after its last", {"n_first": 3, "n_last": 1}),
    ):
        message = jws(line.batch([], [{**good, **change}]))
        _add(group, name, about, [message], "V5", ALARMED, "balance")


def _closings(group: Group) -> None:
    """Broker mode: a balance lists epochs that ended, and says something else than their events."""
    line = basis(3)
    line.now_ms += 60_000
    event = line.epoch("m1", 0)
    line.say([], [event])
    ended = {name: event[name] for name in event if name not in ("type", "at", "meter")} | {"n_last": 3}
    line.now_ms += 60_000
    delta = line.delta("m1", 700)
    balance = line.balance("m1", 1, 0, 700)
    for name, about, change in (
        (
            "v5-closed-last",
            "a listed epoch ended 500 higher than its event says",
            {"last": ended["last"] + 500},
        ),
        ("v5-closed-first", "the next epoch is listed as opened 500 higher", {"first": 500}),
        ("v5-closed-serial", "another meter is listed as the new one", {"serial_to": "2206007777"}),
        ("v5-closed-bound", "the hole is listed as hiding nothing", {"bound": 0}),
        (
            "v5-closed-never",
            "an epoch is listed as closed that no event closed",
            {"epoch_from": 2, "epoch_to": 3},
        ),
    ):
        messages = [line.log[3], jws(line.batch([delta], [{**balance, "closed": [ended | change]}]))]
        _add(group, name, about, messages, "V5: a balance lists", ALARMED, "balance", m1=3_700)


def _corrections(group: Group) -> None:
    """A person's word on deltas that do not exist, or twice on the same: nothing of it is applied."""
    line = basis(3)
    line.now_ms += 60_000
    factor = {"num": 4, "den": 3, "reason": "wrong CT ratio", "evidence": "A" * 43, "by": "Li Wei"}
    good = line.event("adjust", meter="m1", epoch=1, n_from=1, n_to=2, **factor)
    for name, about, change, finding in (
        ("adjust-beyond", "it names deltas that were never sealed", {"n_to": 9}, "the last delta sealed"),
        ("adjust-other-epoch", "it names an epoch that never was", {"epoch": 7}, "in epoch 1"),
        ("adjust-backwards", "its first delta comes after its last", {"n_from": 3}, "after its last"),
        ("adjust-other-meter", "it names a meter that never was", {"meter": "m9"}, "no delta of it"),
    ):
        message = jws(line.batch([], [{**good, **change}]))
        _add(group, name, about, [message], finding, ALARMED, "adjust")
    twice = jws(line.batch([], [good, {**good, "n_from": 2, "n_to": 3}]))
    about = "two adjustments of the same delta, both signed"
    _add(group, "adjust-overlapping", about, [twice], "adjusted already", ALARMED, "adjust")
    word = line.event("manual", meter="m1", epoch=1, n=9, text="read by eye", by="Li Wei")
    about = "a word on a delta that was never sealed"
    _add(group, "manual-beyond", about, [jws(line.batch([], [word]))], "manual", ALARMED, "adjust")
