"""Bare paho: the batches of a journal, taken into memory first, sent with QoS 1 as fast as the library can.

    python -m tests.bench.paho_sender PORT TOPIC JOURNAL

MQTT 5, paho's own network thread, and the agent's window: how many messages may be without a PUBACK decides about the
rate of both, so both have the same. The journal is a copy that nobody else has open.
"""

import sys
from pathlib import Path

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from agent.adapters.journal import open_journal
from agent.adapters.uplink.limits import IN_FLIGHT_MAX


def main() -> None:
    """Send everything, and wait for the last acknowledgement."""
    port, topic, path = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    journal = open_journal(path)
    payloads = [batch.jws or b"" for batch in journal.queue(after_ordinal=0, limit=1_000_000)]
    journal.close()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="bench-bare", protocol=mqtt.MQTTv5)
    client.max_inflight_messages_set(IN_FLIGHT_MAX)
    client.connect("127.0.0.1", port, 60)
    client.loop_start()
    sent = [client.publish(topic, payload, qos=1) for payload in payloads]
    for message in sent:
        message.wait_for_publish()
    client.disconnect()
    client.loop_stop()


if __name__ == "__main__":
    main()
