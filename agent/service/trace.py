"""The whole life of one delta, found again in the journal: words, counts, gates, delta, batch, receipt.

Nothing is remembered for this: the stored words go through the same pure functions once more, and what they give is
held against what was booked. Two things cannot be shown. The frames around the words are not kept (only words of a
frame that passed every check get into the journal), and neither are the times of PUBACKs, which release nothing; those
of the last batches of this process are given where the running agent is asked.

Where a `clock` event has relabelled a batch, each time is shown as it was told and as it should have been.

Before this come a meter and a moment; after it the command `trace`. Energies are integers of 0.001 Wh, times UTC
Unix ms.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from agent.metering.decode import NoValue, decode
from agent.metering.gates import Held, RefusedReading, admit, compare, power_max_w, rise_max, step_milliwh
from agent.metering.interval import DAY_MS, elapsed_ms
from agent.metering.plant import Meter
from agent.metering.profile import Register
from agent.metering.quantity import EXACT_MAX, Counts, format_kwh, to_milliwh
from agent.reporting import envelope, strictjson
from agent.reporting.acknowledgement import Acknowledgement
from agent.reporting.batch import UNKNOWN, Batch, Delta
from agent.reporting.chain import ChainHead
from agent.reporting.relabel import Relabelling, corrected, relabellings
from agent.service.journal import Journal, KeptBatch, Reading, Storage
from agent.service.seal import read_map

DECIMALS_MAX = 30
BEFORE_MAX, AFTER_MAX, PAGE = 16, 64, 8
"""How many batches before and after the expected place are looked through, and how many at once."""
RELABELLED_WITHIN = 2000
"""How many batches behind one that was sealed without the time are looked through for what it should have been."""


class Tracer:
    """Answers the question on the control socket."""

    def __init__(self, meters: Sequence[Meter], storage: Storage, pubacks: Mapping[int, int]) -> None:
        """`pubacks`: when the broker took the newest batches, by ordinal."""
        self._meters = {meter.id: meter for meter in meters}
        self._storage = storage
        self._pubacks = pubacks

    async def answer(self, arguments: Mapping[str, object]) -> dict[str, object]:
        """The life of the delta of `meter` that covers `at_ms`; `unknown_meter` where there is none of that id.

        Raises ValueError for arguments of another kind.
        """
        name, at_ms = arguments.get("meter"), arguments.get("at_ms")
        if not isinstance(name, str) or type(at_ms) is not int:
            raise ValueError("trace wants a meter and a time")
        meter = self._meters.get(name)
        if meter is None:
            return {"unknown_meter": name, "meters": list(self._meters)}
        found = await self._storage.run(lambda journal: trace(journal, meter, at_ms))
        batch = found.get("batch")
        if isinstance(batch, dict):
            batch["puback_ms"] = self._pubacks.get(batch["ordinal"])
        return found


def trace(journal: Journal, meter: Meter, at_ms: int) -> dict[str, object]:
    """Find what became of the energy of a meter at a moment.

    Returns:
        Plain values. `found` says what: `delta`, `opening` (an epoch opened; there is no delta before it, or a declared
        hole), `purged` (retention has removed it), `later` (not closed yet) or `nothing` (never read).
    """
    before, after = journal.readings_around(meter.id, at_ms)
    answer: dict[str, object] = {"meter": meter.id, "at_ms": at_ms, "found": "nothing"}
    if after is None:
        return answer | {"found": "later" if before else "nothing", "before": _shown(journal, meter, before)}
    answer |= {"before": _shown(journal, meter, before), "after": _shown(journal, meter, after)}
    if after.point.opens is not None:
        return answer | {"found": "opening"} | _opening(journal, after)
    place = _batch_with(journal, after)
    if place is None:
        return answer | {"found": "purged"} | _near(journal, after)
    kept, batch, delta = place
    _correct(journal, answer["after"], place)
    if before is not None:
        _correct(journal, answer["before"], _batch_with(journal, before))
    if before is None or delta.start_ms != before.point.at_ms or at_ms <= delta.start_ms:
        return answer | {"found": "purged"} | _near(journal, after)
    return answer | {
        "found": "delta",
        "gates": _gates(journal, meter, before, after, delta),
        "delta": {
            **delta.to_payload(),
            "start_ms": delta.start_ms,
            "end_ms": delta.end_ms,
            "kwh": format_kwh(delta.delta),
        },
        "batch": _batch_shown(kept, batch),
        "receipt": _receipt(journal, kept),
        "statements": [
            each.as_json()
            for each in journal.statements()
            if each.speaks_of(delta.meter, delta.epoch, delta.n)
        ],
    }


# ----------------------------------------------------------------------------------------------------------- readings


@dataclass(frozen=True, slots=True)
class _Meaning:
    """What the stored words of a reading say under its descriptor; `counts` is None where nobody knows any more."""

    counts: Counts | None
    note: str


def _meaning(journal: Journal, meter: Meter, reading: Reading) -> _Meaning:
    kept = journal.descriptor(reading.cfg)
    described = read_map(kept).descriptor.by_meter().get(meter.id) if kept is not None else None
    if described is None or described.profile_hash != meter.profile.hash:
        return _Meaning(
            None, "read under another profile than the one of today, so the words are not taken apart"
        )
    value = decode(meter.profile.energy, reading.words)
    if isinstance(value, NoValue | str):
        return _Meaning(None, f"the words give no count: {value}")
    return _Meaning(value, "")


def _shown(journal: Journal, meter: Meter, reading: Reading | None) -> dict[str, object] | None:
    if reading is None:
        return None
    meaning, point, register = _meaning(journal, meter, reading), reading.point, meter.profile.energy
    return {
        "at_ms": point.at_ms,
        "cut_ms": point.cut_ms,
        "words": [f"{word:04X}" for word in reading.words],
        "register": register.name,
        "place": _place(register),
        "unit": register.unit,
        "counts": None if meaning.counts is None else _plain(meaning.counts),
        "note": meaning.note,
        "per_count_milliwh": str(point.basis.per_count_milliwh),
        "transformer_ratio": str(meter.transformer_ratio(register)),
        "modulus_milliwh": point.basis.modulus_milliwh,
        "serial": point.basis.serial,
        "register_milliwh": point.register_milliwh,
        "register_kwh": format_kwh(point.register_milliwh),
        "flags": sorted(point.flags),
        "opens": point.opens,
        "cfg": reading.cfg,
    }


def _place(register: object) -> str:
    """Where the words of a register come from."""
    if isinstance(register, Register):
        return f"function {register.function}, address {register.address}, {register.type.value}"
    return "sum of registers"


def _correct(journal: Journal, shown: object, place: "tuple[KeptBatch, Batch, Delta] | None") -> None:
    """Put beside the time of a reading what a later `clock` event makes of it."""
    if place is None or not isinstance(shown, dict):
        return
    kept, batch, _ = place
    right = corrected(shown["at_ms"], batch.chain, batch.seq, _relabelled_after(journal, kept, batch))
    if right is not None:
        shown["corrected"] = {"at_ms": right.at_ms, "err_ms": right.err_ms, "said_in": right.said_in}


def _relabelled_after(journal: Journal, kept: KeptBatch, batch: Batch) -> list[Relabelling]:
    """What was said of the times of a batch.

    They are relabelled as soon as the time is known: by one of the first batches after it that were sealed with it.
    """
    found: list[Relabelling] = []
    place, last, sealed_with_time = kept.ordinal, kept.ordinal + RELABELLED_WITHIN, 0
    if batch.clock.sync != UNKNOWN:
        return found
    while page := journal.batches_between(after_ordinal=place, up_to_ordinal=last, limit=PAGE):
        for later in map(_opened, page):
            if later is not None and later.chain == batch.chain:
                found += relabellings(later)
                sealed_with_time += later.clock.sync != UNKNOWN
        if sealed_with_time > PAGE:
            break
        place = page[-1].ordinal
    return found


# -------------------------------------------------------------------------------------------------------------- gates


def _gates(
    journal: Journal, meter: Meter, before: Reading, after: Reading, delta: Delta
) -> list[dict[str, object]]:
    """Every gate once more, from the stored words; `passed` is None where it cannot be repeated."""
    meaning = _meaning(journal, meter, after)
    return [
        _gate("frame", None, "unit, function, length and checksum matched the request; frames are not kept"),
        _value_gate(meter, after, meaning),
        _register_gate(after, meaning),
        _continuity_gate(before, after),
        _move_gate(meter, before, after, delta, meaning.counts),
    ]


def _gate(name: str, passed: bool | None, text: str) -> dict[str, object]:
    return {"gate": name, "passed": passed, "text": text}


def _value_gate(meter: Meter, after: Reading, meaning: _Meaning) -> dict[str, object]:
    if meaning.counts is None:
        return _gate("value", None, meaning.note)
    if after.point.basis.per_count_milliwh != meter.per_count_milliwh:
        inside = 0 <= to_milliwh(meaning.counts, after.point.basis.per_count_milliwh) <= EXACT_MAX
        return _gate("value", inside, "a count in its range (ratio of that time)")
    admitted = admit(meter, meaning.counts)
    if isinstance(admitted, RefusedReading):
        return _gate("value", False, admitted.reason)
    modulus = meter.profile.energy.modulus_counts
    below = f", below its modulus {modulus}" if modulus is not None else ""
    return _gate("value", True, f"{_plain(meaning.counts)} is a count{below}, no invalid mark")


def _register_gate(after: Reading, meaning: _Meaning) -> dict[str, object]:
    if meaning.counts is None:
        return _gate("register", None, meaning.note)
    ratio = after.point.basis.per_count_milliwh
    register = to_milliwh(meaning.counts, ratio)
    agrees = register == after.point.register_milliwh
    stored = "as stored" if agrees else f"but {after.point.register_milliwh} is stored"
    text = f"{_plain(meaning.counts)} counts x {_plain(ratio)} = {register} x 0.001 Wh, {stored}"
    return _gate("register", agrees, text)


def _continuity_gate(before: Reading, after: Reading) -> dict[str, object]:
    continues = after.point.basis.continues(before.point.basis)
    serial = after.point.basis.serial or before.point.basis.serial
    same = "the same ratio, modulus" + (
        f" and serial number {serial}" if serial else "; no serial number is known"
    )
    return _gate("continuity", continues, same if continues else "another ratio, modulus or serial number")


def _move_gate(
    meter: Meter, before: Reading, after: Reading, delta: Delta, counts: Counts | None
) -> dict[str, object]:
    length_ms = elapsed_ms(before.point, after.point)
    step = Fraction(0) if counts is None else step_milliwh(meter, counts)
    most = None if length_ms is None else rise_max(power_max_w(meter), step, length_ms)
    move = compare(
        before.point.register_milliwh,
        after.point.register_milliwh,
        modulus_milliwh=after.point.basis.modulus_milliwh,
        rise_max_milliwh=most,
    )
    if isinstance(move, Held):
        return _gate("move", False, move.reason)
    if (move.delta_milliwh, move.roll_milliwh) != (delta.delta, delta.roll):
        return _gate("move", False, f"gives {move.delta_milliwh}, the batch says {delta.delta}")
    roll = "" if move.roll_milliwh is None else f" across one rollover of {format_kwh(move.roll_milliwh)} kWh"
    if most is None or length_ms is None:
        unknown = "how long it was" if length_ms is None else "the power of the circuit"
        return _gate("move", True, f"a rise{roll}; nobody knows {unknown}, so there is no limit")
    limit = f"at most {format_kwh(most)} kWh are possible in {length_ms // 1000} s"
    if move.delta_milliwh > most:
        confirmed = "rate" in delta.q
        return _gate(
            "move",
            confirmed,
            f"a rise beyond that ({limit}), "
            + ("confirmed by three readings" if confirmed else "NOT confirmed"),
        )
    return _gate("move", True, f"a rise{roll} the circuit can have used: {limit}")


def _plain(value: Counts) -> str:
    """A value as an exact decimal, as floats and ratios of a tenth are; other fractions as they are."""
    exact = Fraction(value)
    twos = (exact.denominator & -exact.denominator).bit_length() - 1
    fives, rest = 0, exact.denominator >> twos
    while rest % 5 == 0:
        fives, rest = fives + 1, rest // 5
    places = max(twos, fives)
    if rest != 1 or places > DECIMALS_MAX:
        return str(exact)
    digits = f"{abs(exact.numerator) * 10**places // exact.denominator:0{places + 1}d}"
    whole, decimals = digits[: len(digits) - places], digits[len(digits) - places :]
    return f"{'-' if exact < 0 else ''}{whole}" + (f".{decimals}" if decimals else "")


# -------------------------------------------------------------------------------------------------------------- batch


def _batch_with(journal: Journal, after: Reading) -> tuple[KeptBatch, Batch, Delta] | None:
    """The batch that tells the delta which ends at a reading; rather one that was sent than a superseded one."""
    second_best = None
    for kept in _candidates(journal, after):
        batch = _opened(kept)
        delta = next((delta for delta in batch.deltas if _ends_at(delta, after)), None) if batch else None
        if batch is None or delta is None:
            continue
        if not kept.superseded:
            return kept, batch, delta
        second_best = second_best or (kept, batch, delta)
    return second_best


def _candidates(journal: Journal, after: Reading) -> "list[KeptBatch]":
    """Batches around the time of a reading, in their order."""
    middle = journal.ordinal_sealed_by(after.point.at_ms)
    place, last = max(0, middle - BEFORE_MAX), middle + AFTER_MAX
    found: list[KeptBatch] = []
    while page := journal.batches_between(after_ordinal=place, up_to_ordinal=last, limit=PAGE):
        found += page
        place = page[-1].ordinal
        if any(not kept.superseded and _tells(kept, after) for kept in page):
            break
    return found


def _tells(kept: KeptBatch, after: Reading) -> bool:
    batch = _opened(kept)
    return batch is not None and any(_ends_at(delta, after) for delta in batch.deltas)


def _ends_at(delta: Delta, after: Reading) -> bool:
    point = after.point
    return (delta.meter, delta.end_ms, delta.reg_end) == (point.meter, point.at_ms, point.register_milliwh)


def _opened(kept: KeptBatch) -> Batch | None:
    """What a batch says; its signature was made here. None where its text was purged."""
    if kept.jws is None:
        return None
    return Batch.from_payload(_payload(kept.jws, envelope.BATCH))


def _payload(jws: bytes, typ: str) -> dict[str, object]:
    text = envelope.base64url_decode(jws.split(b".")[1].decode("ascii"))
    return strictjson.loads(text, size_max=envelope.SIZE_MAX[typ])


def _batch_shown(kept: KeptBatch, batch: Batch | None) -> dict[str, object]:
    return {
        "ordinal": kept.ordinal,
        "chain": kept.head.chain,
        "seq": kept.head.seq,
        "hash": kept.head.hash,
        "prev": kept.prev,
        "sealed_ms": kept.sealed_ms,
        "superseded": kept.superseded,
        "text_kept": kept.jws is not None,
        "clock": None if batch is None else batch.clock.to_payload(),
        "cfg": None if batch is None else batch.cfg,
        "puback_ms": None,
        "stored_ms": kept.stored_ms,
    }


def _receipt(journal: Journal, kept: KeptBatch) -> dict[str, object] | None:
    """The kept acknowledgement that covers a batch: the newest of the day on which the platform stored it."""
    if kept.stored_ms is None:
        return None
    found = journal.acknowledgements(after_day=kept.stored_ms // DAY_MS - 1, limit=1)
    if not found:
        return None
    head = _head_in(found[0].jws)
    return {
        "stored_ms": found[0].stored_ms,
        "gen": found[0].gen,
        "ack_no": found[0].ack_no,
        "head": None if head is None else head.to_payload(),
    }


def _head_in(jws: bytes) -> ChainHead | None:
    """What a receipt covers; it was verified when it was taken. None for a receipt of a version that is not known."""
    try:
        return Acknowledgement.from_payload(_payload(jws, envelope.ACKNOWLEDGEMENT)).head
    except (ValueError, IndexError):
        return None


def _near(journal: Journal, after: Reading) -> dict[str, object]:
    """Where the delta was, as far as that can be told from times: the first batch sealed after the reading."""
    ordinal = journal.ordinal_sealed_by(after.point.at_ms - 1)
    found = journal.batches_between(after_ordinal=ordinal, up_to_ordinal=ordinal + 1, limit=1)
    if not found:
        return {"batch": None, "receipt": None}
    return {"batch": _batch_shown(found[0], _opened(found[0])), "receipt": _receipt(journal, found[0])}


def _opening(journal: Journal, after: Reading) -> dict[str, object]:
    """The event that declares a new epoch, and the batch it is in; an opening of the first epoch has no event."""
    for kept in _candidates(journal, after):
        batch = _opened(kept)
        for event in batch.events if batch is not None else ():
            point = after.point
            if event.type == "epoch" and (event.body["meter"], event.at_ms) == (point.meter, point.at_ms):
                return {
                    "event": event.to_payload(),
                    "batch": _batch_shown(kept, batch),
                    "receipt": _receipt(journal, kept),
                }
    return {"event": None, "batch": None, "receipt": None}
