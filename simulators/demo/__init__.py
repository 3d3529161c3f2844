"""`metering-sim demo`: a factory, a broker, a platform and the real agent, for a minute, with a verdict.

`rig` makes an installation of real processes in a folder, `show` runs it and watches, `view` says how it looks;
`footprint` compares what the kWh are for with `account`, the simulator's own.
"""

import tempfile
from pathlib import Path

import click

from simulators.demo.show import Show


@click.command()
@click.option("--seconds", default=60, show_default=True, type=click.IntRange(10), help="How long it runs.")
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep site file, keys, journal, store and logs in this new folder.",
)
@click.option("--no-kill", is_flag=True, help="Do not kill the agent halfway through.")
@click.pass_context
def demo(ctx: click.Context, seconds: int, keep: Path | None, no_kill: bool) -> None:
    """Run a whole installation for a while and compare the platform's kWh with the meters' own.

    26 simulated meters, one for each production step: 10 on an RS485 pair paced at 9600 baud, 16 behind a Modbus TCP
    gateway. The agent polls, seals and publishes; a reference platform verifies. Halfway through the agent is killed
    with SIGKILL and started again. At the end the counters stop, the last boundary is drained, and the platform's
    verified energy has to equal the meters' registers exactly, and the carbon footprint made of it the simulator's own
    account: exit code 0, otherwise 1.
    """
    if keep is not None and keep.exists():
        raise click.UsageError(f"{keep} exists; name a new folder")
    with tempfile.TemporaryDirectory(prefix="metering-demo-") as temporary:
        folder = Path(temporary) if keep is None else keep.resolve()
        ctx.exit(Show(folder, seconds, kill=not no_kill).run())
