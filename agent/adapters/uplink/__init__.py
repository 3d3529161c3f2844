"""The MQTT connection to the platform's broker, on paho, made so that it cannot lose, double or hide a message.

paho keeps a queue in memory, sends it again after it has reconnected by itself, tells its user that a refused message
was published, and can lose its network thread without a word. So it gets none of these chances:

* Every connection has a paho client of its own, which is thrown away with it. Nothing can be sent twice behind our
  back; the journal is the only queue, and whoever publishes from it decides what is sent again.
* paho has no thread and no loop. A thread of ours finds the way to the broker, because that blocks, and ends with it;
  from then on the event loop calls paho when its socket has something (decision 0023). Whatever goes wrong inside ends
  that connection and says why.
* The window of unacknowledged messages is ours (`outbox`); what paho is handed is on the wire.
* A message counts as delivered when its PUBACK carries reason code 0. "Nobody is subscribed" and "not authorised" are
  success to paho; here they are `UplinkRefused`.
* What comes in is bounded: eight unread messages of at most 256 KiB (the broker is told so, and acknowledged when a
  message is read); beyond them the socket is not read, and a larger packet ends the connection before it takes memory.

The connection is MQTT 5 with a clean start every time; nothing depends on what the broker remembers. It is made anew
for ever, with full jitter between half a second and a minute. Where a person has to act (password, permission,
protocol) the next attempt takes its time, and when another client took our session it waits five minutes, so that two
gateways with one name do not throw each other out for ever. TLS is 1.2 or later with the host name checked, and there
is no switch for that.

Comes before: `agent.service.publish`, which hands over stored bytes. Comes after: the broker, and
`agent.service.acknowledge`, which reads `events()`. The one package that imports paho.

`client` is paho's client for one connection, `connection` its life from CONNECT to the end, `outbox` what it has to
send and waits for, `answers` what a broker answered, `tunnel` the way through a proxy, `mailbox` the events for the
reader, `supervisor` makes one connection after the other; `address` and `reasons` know nothing of MQTT's machinery.
"""

from agent.adapters.uplink.address import TlsFiles
from agent.adapters.uplink.limits import CONTENT_TYPE, MESSAGE_SIZE_MAX, PACKET_SIZE_MAX
from agent.adapters.uplink.supervisor import MqttUplink

__all__ = ["CONTENT_TYPE", "MESSAGE_SIZE_MAX", "PACKET_SIZE_MAX", "MqttUplink", "TlsFiles"]
