"""What an operator has to look at. A violated rule is stored and alarmed, never dropped (wire format, section 5)."""

from simulators.platform.store import Store

STRANGERS_MAX = 200
"""Alarms about unknown agents before they are counted together: anybody on the broker can invent names."""


class Alarms:
    """Writes alarms into the open transaction; a finding that repeats is counted."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def say(self, name: tuple[str, str], kind: str, subject: str, text: str, now_ms: int) -> None:
        """Record a finding.

        Args:
            name: (org, agent).
            kind: what sort of finding, one word or two with a hyphen.
            subject: what it is about; findings of one kind about one subject are one alarm.
            text: a sentence for a person.
            now_ms: UTC Unix ms.
        """
        self._store.run(
            "INSERT INTO alarms (org, agent, kind, subject, text, first_ms, last_ms) VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET text = excluded.text, last_ms = excluded.last_ms, count = count + 1",
            (*name, kind, subject, text, now_ms, now_ms),
        )

    def stranger(self, name: tuple[str, str], now_ms: int) -> None:
        """Somebody sends who is not registered."""
        known = self._store.first(
            "SELECT 1 FROM alarms WHERE org = ? AND agent = ? AND kind = 'unknown-agent'", name
        )
        strangers = self._store.one("SELECT count(*) FROM alarms WHERE kind = 'unknown-agent'")[0]
        if known is None and strangers >= STRANGERS_MAX:
            name = ("*", "*")
        text = f"{name[0]}/{name[1]} is not registered; nothing of it is stored or acknowledged"
        self.say(name, "unknown-agent", "", text, now_ms)
