"""The journal in SQLite: one file, one connection, one thread, one process.

`connection` is the door to the database, `files` to the folder, `opening` opens it; `sqlite` keeps the promises of
`agent.service.journal` in tables that `schema` makes by numbered migrations, `rows` says what their values mean, `room`
keeps them within the budget. `soundness` judges a file that was not left in good order, `replacing` puts a new one in
the place of one that is damaged, `salvage` saves what that one still proves. `inspection` looks through one in use.
`thread` takes the journal off the event loop. The tables themselves: `batches`, `cuts` (readings, packed by `packing`),
`positions`, `names`; `carryover` fills them from those of version 5 (decision 0021).
"""

from agent.adapters.journal.connection import Connection, StdlibConnection
from agent.adapters.journal.files import Files, FolderFiles
from agent.adapters.journal.inspection import inspect
from agent.adapters.journal.opening import Place, open_at, open_journal
from agent.adapters.journal.replacing import Opened, note_damage, open_or_replace, set_aside
from agent.adapters.journal.sqlite import SqliteJournal
from agent.adapters.journal.thread import JournalThread, Opening

__all__ = [
    "Connection",
    "Files",
    "FolderFiles",
    "JournalThread",
    "Opened",
    "Opening",
    "Place",
    "SqliteJournal",
    "StdlibConnection",
    "inspect",
    "note_damage",
    "open_at",
    "open_journal",
    "open_or_replace",
    "set_aside",
]
