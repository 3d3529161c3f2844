"""The reference carbon platform: the counterpart that proves the agent, and a pilot for a grid company.

It verifies what gateways send, stages it by chain and number, books every delta once, and signs cumulative
acknowledgements after its commit (wire format, sections 5 and 6). One kWh passes through

    serve     MQTT in and out, many messages in one commit
    ingest    envelope, keys and addresses; what is answered, and when
    chains    which batch comes next, which chain is refused, what is a fork
    booking   deltas to booked energy: judged, held, bridged, released
    queries   totals by meter and step, gaps, alarms

`store` is the SQLite file beneath all of them, `dossier` what is known of one agent. Everything but `serve` and the
commands works without a network and without a clock of its own, so that a simulated world can drive it.
"""

from simulators.platform.answers import Outgoing
from simulators.platform.booking import Release
from simulators.platform.ingest import Platform
from simulators.platform.store import Store

__all__ = ["Outgoing", "Platform", "Release", "Store"]
