"""Hypothesis strategies for every payload of the wire format, each field in its whole range."""

from dataclasses import replace
from fractions import Fraction

from hypothesis import strategies as st

from agent.metering.quantity import EXACT_MAX
from agent.reporting import event
from agent.reporting.acknowledgement import Acknowledgement, MeterHead
from agent.reporting.batch import FLAGS, SYNC_STATES, Batch, Clock, Delta
from agent.reporting.chain import ChainHead, new_chain
from agent.reporting.descriptor import Descriptor, MeterDescription
from agent.reporting.status import MODES, STATES, Backlog, Oldest, Status
from agent.reporting.utc import MS_MAX

ids = st.text("ABCXYZabcxyz0189._-", min_size=1, max_size=32)
hashes = st.text("ABCabc019_-", min_size=43, max_size=43)
times = st.integers(0, MS_MAX)
energies = st.integers(0, EXACT_MAX)
counters = st.integers(1, EXACT_MAX)
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
sessions = st.text("0123456789abcdef", min_size=1, max_size=64)
chains = st.builds(new_chain, st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
chain_heads = st.builds(ChainHead, chains, counters, hashes)
clocks = st.builds(Clock, st.sampled_from(SYNC_STATES), energies)
flags = st.sets(st.sampled_from(sorted(FLAGS)) | st.text("abcdef", min_size=1, max_size=8), max_size=6).map(
    lambda names: tuple(sorted(names))
)

deltas = st.builds(
    Delta,
    meter=ids,
    step=st.none() | ids,
    epoch=counters,
    n=counters,
    start_ms=times,
    end_ms=times,
    reg_start=energies,
    reg_end=energies,
    delta=energies,
    roll=st.none() | energies,
    q=flags,
)

_WHAT = {"meter": ids, "at_ms": times}
events = st.one_of(
    st.builds(
        event.epoch_event,
        **_WHAT,
        epoch_from=counters,
        epoch_to=counters,
        last=energies,
        first=energies,
        serial_from=st.none() | texts,
        serial_to=st.none() | texts,
        reason=st.sampled_from(sorted(event.EPOCH_REASONS)),
        unmetered_from_ms=times,
        unmetered_to_ms=times,
        bound=st.none() | energies,
        by=texts,
    ),
    st.builds(
        event.descriptor_event,
        times,
        rev=counters,
        hash=hashes,
        part=st.integers(1, 30),
        parts=st.integers(30, 40),
        text=st.text("abcABC019_-.", min_size=1, max_size=2_000),
    ),
    st.builds(
        event.balance_event,
        **_WHAT,
        epoch=counters,
        n_first=counters,
        n_last=counters,
        reg_first=energies,
        reg_last=energies,
        sum_milliwh=energies,
        roll=energies,
    ),
    st.builds(
        event.clock_event,
        times,
        boot=texts,
        seq_from=counters,
        seq_to=counters,
        offset_ms=st.none() | st.integers(-EXACT_MAX, EXACT_MAX),
        err_ms=energies,
        state_from=st.sampled_from(SYNC_STATES),
        state_to=st.sampled_from(SYNC_STATES),
    ),
    st.builds(event.gap_event, **_WHAT, from_ms=times, to_ms=times, reason=texts),
    st.builds(event.refused_event, **_WHAT, register=texts, reason=texts, count=counters),
    st.builds(event.restart_event, times, reason=texts),
    st.builds(
        event.key_rotate_event,
        times,
        jwk=st.just({"kty": "OKP", "crv": "Ed25519", "x": "A" * 43}),
        proof=st.just(b"aGVhZGVy.cGF5bG9hZA.c2ln"),
    ),
    st.builds(event.continuation_event, times, meter_from=ids, meter_to=ids, serial=texts),
    st.builds(
        event.adjust_event,
        **_WHAT,
        epoch=counters,
        n_from=st.just(1),
        n_to=counters,
        reason=texts,
        evidence=texts,
        by=texts,
        factor=st.tuples(counters, counters),
    ),
    st.builds(
        event.adjust_event,
        **_WHAT,
        epoch=counters,
        n_from=st.just(1),
        n_to=counters,
        reason=texts,
        evidence=texts,
        by=texts,
        energy_milliwh=st.integers(-EXACT_MAX, EXACT_MAX),
        bound_milliwh=energies,
    ),
    st.builds(
        event.witness_event,
        **_WHAT,
        display_kwh=st.from_regex(r"[0-9]{1,9}(\.[0-9]{1,3})?", fullmatch=True),
        register=texts,
        by=texts,
    ),
    st.builds(event.manual_event, **_WHAT, epoch=counters, n=counters, text=texts, by=texts),
)

batches = st.integers(1, 3).flatmap(
    lambda seq: st.builds(
        Batch,
        org=ids,
        agent=ids,
        aud=texts,
        chain=chains,
        seq=st.just(seq),
        prev=hashes,
        prev_chain=st.none() | chain_heads if seq == 1 else st.none(),
        iat_ms=times,
        clock=clocks,
        sw=texts,
        cfg=hashes,
        deltas=st.lists(deltas, max_size=4).map(tuple),
        events=st.lists(events, max_size=4).map(tuple),
    )
)

meter_heads = st.builds(
    MeterHead,
    epoch=counters,
    n=energies,
    register=energies,
    end_ms=times,
    num=counters,
    den=counters,
    modulus=st.none() | counters,
    serial=st.none() | texts,
)
heads = st.dictionaries(ids, meter_heads, max_size=3)

spans = st.tuples(counters, counters).map(lambda pair: (min(pair), max(pair)))


def _with_heads(plain: Acknowledgement, heads: dict[str, MeterHead], rev: int | None) -> Acknowledgement:
    return replace(plain, heads=heads, rev=rev)


acknowledgements = st.builds(
    Acknowledgement,
    org=ids,
    agent=ids,
    gen=energies,
    ack_no=energies,
    head=st.none() | chain_heads,
    stored_at_ms=times,
    need=st.lists(spans, max_size=32).map(tuple),
    held=st.lists(st.tuples(ids, counters, counters), max_size=3).map(tuple),
    refused=st.lists(chains, max_size=3).map(tuple),
    accepts=st.just(("1.0",)),
    session=st.none() | sessions,
).flatmap(lambda plain: st.just(plain) | st.builds(_with_heads, st.just(plain), heads, st.none() | counters))


statuses = st.builds(
    Status,
    org=ids,
    agent=ids,
    at_ms=times,
    state=st.sampled_from(STATES),
    session=sessions,
    sw=texts,
    kid=hashes,
    cfg=st.none() | hashes,
    chain=st.none() | chains,
    head=st.none() | st.tuples(counters, hashes),
    oldest=st.none() | st.builds(Oldest, chains, counters, hashes),
    backlog=st.builds(Backlog, energies, energies, st.none() | times),
    clock=clocks,
    mode=st.sampled_from(MODES),
    need_heads=st.booleans(),
    heads=st.none() | heads,
)

shares = st.lists(
    st.tuples(ids, st.fractions("1/100", 1, max_denominator=1_000)), max_size=4, unique_by=lambda s: s[0]
)


def _at_most_one(parts: list[tuple[str, Fraction]]) -> tuple[tuple[str, int, int], ...]:
    count = max(1, len(parts))
    fair = [(step, part / count) for step, part in parts]
    return tuple((step, part.numerator, part.denominator) for step, part in fair)


descriptions = st.builds(
    MeterDescription,
    meter=ids,
    serial=st.none() | texts,
    profile=texts,
    profile_hash=hashes,
    num=counters,
    den=counters,
    modulus=st.none() | counters,
    resolution=st.none() | counters,
    accuracy_class=st.none() | texts,
    ct_class=st.none() | texts,
    production_line=st.none() | texts,
    parent=st.none() | ids | st.tuples(ids, ids).map("/".join),
    rated_w=st.none() | energies,
    role=st.sampled_from(("step", "incomer", "generation", "export", "utility", "other")),
    steps=shares.map(_at_most_one),
)

descriptors = st.builds(
    Descriptor,
    org=ids,
    agent=ids,
    rev=counters,
    iat_ms=times,
    sw=texts,
    meters=st.lists(descriptions, max_size=4, unique_by=lambda meter: meter.meter).map(tuple),
)
