"""How much disk the journal needs for the time it must be able to keep.

The promise behind it: what is not acknowledged is kept, and what is acknowledged is kept for at least 7 days (30 in
broker mode, where nobody can acknowledge). A budget below twice that would lengthen intervals in ordinary weeks, so a
site file with such a budget is refused (wire format, section 6).

The estimate is an upper one; `tests/settings/test_budget.py` compares it with the journal's own tables:

    bytes a day = intervals a day x (batches x STORED_BYTES_PER_BATCH + meters x STORED_BYTES_PER_DELTA)
    batches     = meters / 64, rounded up
"""

from agent.settings.grammar import DAY_MS

STORED_BYTES_PER_BATCH = 1_400
"""Header, signature and fixed members of a batch, its row in the chain, and what is left empty of SQLite's pages."""

STORED_BYTES_PER_DELTA = 50
"""A delta deflated within its batch (33 bytes among 64) and its boundary reading (8 to 12 bytes among as many)."""

DELTAS_PER_BATCH = 64
DAYS_PLATFORM, DAYS_BROKER = 7, 30
"""Days that must fit twice, by who acknowledges."""


def bytes_per_day(meters: int, interval_ms: int) -> int:
    """Upper estimate of what the journal grows by in one day."""
    batches = -(-meters // DELTAS_PER_BATCH)
    intervals = DAY_MS // interval_ms
    return intervals * (batches * STORED_BYTES_PER_BATCH + meters * STORED_BYTES_PER_DELTA)


def days_to_keep(acknowledgement: str) -> int:
    """Days of data that must fit into the budget twice."""
    return DAYS_BROKER if acknowledgement == "broker" else DAYS_PLATFORM


def needed_mb(meters: int, interval_ms: int, acknowledgement: str) -> int:
    """The smallest budget that `check` accepts, in whole megabytes of 10**6 bytes."""
    return -(-2 * days_to_keep(acknowledgement) * bytes_per_day(meters, interval_ms) // 1_000_000)
