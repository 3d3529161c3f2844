"""Waiting for an event, but not for ever.

`asyncio.wait_for` of Python 3.11 swallows a cancellation that arrives in the same turn as the event; a stage that is
told to stop would then go on. `asyncio.timeout` does not.
"""

import asyncio


async def happens(event: asyncio.Event, within_s: float) -> bool:
    """Wait until the event is set, at most this long; whether it was. The event is left as it is."""
    try:
        async with asyncio.timeout(within_s):
            await event.wait()
    except TimeoutError:
        return False
    return True
