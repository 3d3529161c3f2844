"""Intervals: stretches (start, end] of equal length, named by their end, aligned to the UTC day.

Boundaries only say *when to read*. Energy never depends on them: a delta carries the real times of its two readings.
"""

DAY_MS = 86_400_000


def next_boundary(at_ms: int, length_ms: int) -> int:
    """The first boundary strictly after a UTC Unix time; `length_ms` divides a day."""
    return (at_ms // length_ms + 1) * length_ms


def misses_boundaries(from_ms: int, to_ms: int, length_ms: int) -> bool:
    """Say whether a delta between two cuts spans a boundary at which its meter was not read.

    Args:
        from_ms: the boundary, or the moment of a start or stop, for which the first register was read.
        to_ms: the same of the second register.
        length_ms: length of the interval.
    """
    return next_boundary(from_ms, length_ms) < to_ms
