"""A small MQTT 5 broker with faults that can be switched while it runs.

The demo needs a broker where none is installed, and the tests need one that loses, delays and forgets on request, which
no real broker does. It speaks MQTT 5 (and 3.1.1, as its clients expect it) with QoS 0 and 1, retained messages, wills,
shared subscriptions, sessions and session takeover; everything lives in memory. Mosquitto stays the referee: what the
agent does is tested against both.

`packets` turns bytes into values and back, `topics` matches names, `sessions` keeps what a client is owed, `server`
does the talking, `faults` is the switchboard.
"""

from simulators.broker.faults import ALWAYS, Faults
from simulators.broker.routing import Limits
from simulators.broker.server import Broker

__all__ = ["ALWAYS", "Broker", "Faults", "Limits"]
