"""The edge metering agent: signed kWh deltas from the meters of a factory to a carbon platform.

Energy travels one way: wire, reading, sealed batch, platform, acknowledgement, purge. `agent/README.md` follows one
kilowatt-hour along that way; every package opens with its own part of it.
"""

__version__ = "0.1.0"
