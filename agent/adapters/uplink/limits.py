"""How much the uplink takes, sends and keeps at once; every figure protects memory or a slow link."""

CONTENT_TYPE = "application/jose"
MESSAGE_SIZE_MAX = 256 * 1024
# The payload, its topic and its properties. The broker is told, and a packet beyond it is not even read.
PACKET_SIZE_MAX = MESSAGE_SIZE_MAX + 4096
UNREAD_MAX = 8
UNREAD_STATES_MAX = 64
# Unacknowledged publishes (wire format, section 4); brokers accept 20 by default, and paho does not look at what they
# announce.
IN_FLIGHT_MAX = 8
# paho closes a connection whose ping is not answered within the keep-alive time, and the ping queues behind our data.
# This much leaves in 15 s at 4.4 kB/s, so that a full window gets through a bad radio link instead of starting over.
IN_FLIGHT_BYTES_MAX = 64 * 1024
# A connection that lasted this long was a good one: the next wait is short again.
STABLE_S = 30.0
