"""A bare pymodbus master for the bench: the same reads of the same meters, round after round, and nothing else.

    python -m tests.bench.pymodbus_master '{"device": ..., "baud": ..., "parity": "N", "seconds": ..., ...}'

Prints reads, failed reads, CPU seconds and context switches as JSON. `host` and `port` instead of `device` make it TCP.
"""

import asyncio
import json
import logging
import resource
import sys
import time
from typing import Any

from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException

logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)


async def run(asked: dict[str, Any]) -> dict[str, float]:
    """Read until the time is over."""
    clients = [_client(asked, place) for place in asked.get("places", [None])]
    for client in clients:
        await client.connect()
    begun = resource.getrusage(resource.RUSAGE_SELF)
    began_s = time.monotonic()
    counts = [0, 0]
    await asyncio.gather(*(_serve(client, asked, began_s + asked["seconds"], counts) for client in clients))
    ended = resource.getrusage(resource.RUSAGE_SELF)
    for client in clients:
        client.close()
    return {
        "reads": counts[0],
        "failed": counts[1],
        "seconds": time.monotonic() - began_s,
        "cpu_s": ended.ru_utime + ended.ru_stime - begun.ru_utime - begun.ru_stime,
        "switches": ended.ru_nvcsw - begun.ru_nvcsw,
    }


def _client(asked: dict[str, Any], place: Any) -> Any:
    if "device" in asked:
        return AsyncModbusSerialClient(
            asked["device"], baudrate=asked["baud"], parity=asked["parity"], timeout=0.1, retries=0
        )
    return AsyncModbusTcpClient(place[0], port=place[1], timeout=1, retries=0)


async def _serve(client: Any, asked: dict[str, Any], until_s: float, counts: list[int]) -> None:
    """Rounds without a pause, or one every `period_s`."""
    next_s = time.monotonic()
    while time.monotonic() < until_s:
        for unit in asked["units"]:
            for address, count in asked["blocks"]:
                if asked.get("gap_ns"):
                    await asyncio.sleep(asked["gap_ns"] / 1e9)
                try:
                    reply = await client.read_input_registers(address, count=count, device_id=unit)
                except ModbusException:
                    counts[1] += 1
                    continue
                counts[1 if reply.isError() else 0] += 1
        if asked.get("period_s"):
            next_s += asked["period_s"]
            await asyncio.sleep(max(0, next_s - time.monotonic()))


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(json.loads(sys.argv[1])))))
