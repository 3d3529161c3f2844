"""The command `metering-sim broker`: the small broker as a process of its own."""

import asyncio
import signal

import click

from simulators.broker.routing import Limits
from simulators.broker.server import Broker


@click.command("broker")
@click.option("--port", default=1883, show_default=True, help="TCP port; 0 lets the system choose.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--queue", "queue_max", default=1000, show_default=True, help="Most messages queued for one client."
)
def broker(port: int, host: str, queue_max: int) -> None:
    """Run a small MQTT 5 broker in memory, for demonstrations and tests.

    It has no authentication: keep it on a loopback address. Its first line of output is its URL.
    """
    try:
        asyncio.run(_serve(Broker(port, host=host, limits=Limits(queue_max=queue_max))))
    except OSError as error:
        raise click.ClickException(
            f"cannot listen on {host}:{port}: {error.strerror}; is another broker there?"
        ) from None


async def _serve(served: Broker) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with served:
        click.echo(served.url)
        await stop.wait()
    numbers = ", ".join(f"{name} {count}" for name, count in sorted(served.counts.items()))
    click.echo(f"stopped; {numbers or 'nobody came'}")
