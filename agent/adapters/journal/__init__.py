"""The journal in SQLite: one file, one connection, one thread, one process.

`connection` is the door to the database, `sqlite` keeps the promises of `agent.service.journal`, `schema` holds the
numbered migrations, `thread` takes the journal off the event loop.
"""

from agent.adapters.journal.connection import Connection, StdlibConnection
from agent.adapters.journal.sqlite import SqliteJournal, open_journal, open_or_replace, set_aside
from agent.adapters.journal.thread import JournalThread

__all__ = [
    "Connection",
    "JournalThread",
    "SqliteJournal",
    "StdlibConnection",
    "open_journal",
    "open_or_replace",
    "set_aside",
]
