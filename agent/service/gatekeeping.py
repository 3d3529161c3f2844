"""The part of the journal's port that the gates keep their memory in; `agent.service.journal` has the rest.

Rows here are changed and deleted, unlike anything that was ever sealed: they say what has to be asked of the next
reading, and never what was counted.
"""

from collections.abc import Sequence
from typing import Protocol

from agent.metering.memory import Memory, Order, Pending


class GateRecords(Protocol):
    """What the gates remember, by meter. Any method may raise JournalFull or JournalDamaged."""

    def memories(self) -> dict[str, Memory]:
        """What is remembered of every meter ever read."""

    def save_memory(self, meter: str, memory: Memory) -> None:
        """Replace what is remembered of one."""

    def doubts(self) -> dict[str, tuple[Pending, ...]]:
        """Readings that are not believed yet, oldest first."""

    def save_doubts(self, meter: str, readings: Sequence[Pending]) -> None:
        """Replace those of one meter; none ends the doubt."""

    def orders(self) -> dict[str, Order]:
        """What persons have said and no boundary has carried out yet."""

    def save_order(self, order: Order) -> None:
        """Keep it, instead of an earlier one for the same meter."""

    def drop_order(self, meter: str) -> None:
        """It was carried out, or taken back."""
