"""The one read of a line that waits for its answer; shared by both ways to a meter, RS485 and Modbus TCP.

An answer may come after whoever asked has gone away; then nobody is told. What may be believed as an answer is decided
before, by the state machine of the line.
"""

import asyncio

from agent.service.ports import Reply


class Answering:
    """Holds the future of the read that is being made, if there is one."""

    def __init__(self) -> None:
        self._waiting: asyncio.Future[Reply] | None = None

    def begin(self) -> asyncio.Future[Reply]:
        """What a read waits for from now on."""
        self._waiting = asyncio.get_running_loop().create_future()
        return self._waiting

    def end(self) -> None:
        """The read is over, however it ended."""
        self._waiting = None

    def give(self, result: Reply | Exception) -> None:
        """Answer the read that waits; nothing happens where none does."""
        if self._waiting is None or self._waiting.done():
            return
        if isinstance(result, Reply):
            self._waiting.set_result(result)
        else:
            self._waiting.set_exception(result)
