"""Writes one setting of one meter and hears whether it was taken; for `metering-agent meter-setup` only.

Apart from the line that reads: this one can send the two commands of `agent.protocol.writing` and nothing else, and no
stage of the service knows it. One command at a time, never repeated by itself: after a lost answer a person looks.
"""

import asyncio
import time

from agent.adapters.rtu_line import open_channel
from agent.errors import LineDown, MeterSilent
from agent.metering.plant import Line, SerialSettings
from agent.protocol.writing import Command

LISTEN_S = 0.3
"""A port just opened may still deliver old answers: they are thrown away."""
REPLY_S = 1.5
"""Meters write their memory before they answer."""
_LOOK_S = 0.005


async def write_setting(line: Line, settings: SerialSettings, command: Command) -> None:
    """Send one command with these line settings.

    Raises:
        LineDown: the port cannot be had or is gone. MeterSilent: no answer; it may have been taken all the same.
        MeterRefused: the meter said no. FrameDamaged: it confirmed something else.
    """
    channel = await open_channel(line)
    try:
        channel.retune(settings)
        await asyncio.sleep(LISTEN_S)
        channel.read()
        channel.write(command.encode())
        received, until = b"", time.monotonic() + REPLY_S
        while time.monotonic() < until:
            received += channel.read()
            if command.is_done(received):
                return
            await asyncio.sleep(_LOOK_S)
    except OSError as fault:
        raise LineDown(f"line {line.id}: the port is gone ({fault})") from fault
    finally:
        channel.close()
    raise MeterSilent(
        "the meter did not confirm; it may have taken the setting all the same: look with scan before trying again"
    )
