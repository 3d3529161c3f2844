"""Room on the disk: how long an interval may be while nothing is acknowledged, and what goes first when room is needed.

Once what is unacknowledged fills half the budget, an interval takes the shortest doubling of the set length at which
the space left would last three more times as long as the outage has lasted so far. The space left then falls as
age^(-1/3) and is never used up: any outage fits, resolution falls slowly, and no energy is dropped, because a register
is read as exactly after a day as after a minute (wire format, section 6, "Disk pressure").
"""

from agent.errors import JournalFull
from agent.metering.interval import DAY_MS
from agent.service.acknowledge import KEEP_DAYS_MIN
from agent.service.journal import Journal, Waiting

RESERVED_BYTES = 3_000_000
"""Of every budget: the write-ahead log and the ballast."""
TIMES_LONGER = 3
"""The space left must last so many times as long as the outage has lasted."""
_FULL = (7, 8)
"""From this share of the budget on, what was acknowledged more than 7 days ago goes before its time."""


def interval_under_pressure(set_ms: int, waiting: Waiting) -> int:
    """Length of the next interval, in ms: the set length, or a doubling of it.

    Args:
        set_ms: the length of the site file.
        waiting: what is unacknowledged, and the room there is.
    """
    budget = waiting.budget_bytes
    if budget is None or 2 * waiting.bytes < budget:
        return set_ms
    return lengthened(
        set_ms,
        left_bytes=max(1, budget - waiting.bytes),
        interval_bytes=waiting.interval_bytes,
        age_ms=waiting.for_ms,
    )


def lengthened(set_ms: int, *, left_bytes: int, interval_bytes: int, age_ms: int) -> int:
    """The shortest doubling at which `left_bytes` last three more times `age_ms`, at `interval_bytes` each."""
    needed_ms = -(-TIMES_LONGER * age_ms * interval_bytes // left_bytes)
    length_ms = set_ms
    while length_ms < needed_ms:
        length_ms *= 2
    return length_ms


def forecast(set_ms: int, *, budget_bytes: int, interval_bytes: int, outage_ms: int) -> int:
    """The interval length, in ms, that an outage of this length reaches, from an empty journal on."""
    used, age_ms, length_ms = 0, 0, set_ms
    while age_ms < outage_ms:
        if 2 * used >= budget_bytes:
            left = max(1, budget_bytes - used)
            length_ms = lengthened(set_ms, left_bytes=left, interval_bytes=interval_bytes, age_ms=age_ms)
            steps = 1
        else:  # until half of the budget is used nothing changes
            steps = max(1, min(-(-(budget_bytes // 2 - used) // interval_bytes), -(-outage_ms // set_ms)))
        used += steps * interval_bytes
        age_ms += steps * length_ms
    return length_ms


def tend(journal: Journal) -> Waiting:
    """Look how much room there is; let go what was acknowledged long enough ago where the budget needs it."""
    waiting = journal.waiting()
    share, of = _FULL
    if waiting.budget_bytes is not None and of * waiting.used_bytes > share * waiting.budget_bytes:
        _purge_early(journal)
    journal.keep_room()
    return waiting


def relieve(journal: Journal) -> bool:
    """There was no room for a write: give up the ballast, and what may go early. Whether another try is worth it."""
    given_up = journal.make_room()
    try:
        return _purge_early(journal) or given_up
    except JournalFull:
        return given_up


def _purge_early(journal: Journal) -> bool:
    with journal.transaction():
        before_ms = journal.state().acked_at_ms - KEEP_DAYS_MIN * DAY_MS
        return journal.purge(stored_before_ms=before_ms) > 0
