"""Bare paho: the batches of a journal, taken into memory first, sent with QoS 1 as fast as the library can.

    python -m tests.bench.paho_sender PORT TOPIC JOURNAL WINDOW

MQTT 5, paho's own network thread, at most WINDOW messages without a PUBACK; the journal is a copy that nobody else has
open.
"""

import sys
from pathlib import Path

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from agent.adapters.journal import open_journal


def main() -> None:
    """Send everything, and wait for the last acknowledgement."""
    port, topic, path, window = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
    journal = open_journal(path)
    payloads = [batch.jws or b"" for batch in journal.queue(after_ordinal=0, limit=1_000_000)]
    journal.close()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="bench-bare", protocol=mqtt.MQTTv5)
    client.max_inflight_messages_set(window)
    client.connect("127.0.0.1", port, 60)
    client.loop_start()
    sent = [client.publish(topic, payload, qos=1) for payload in payloads]
    for message in sent:
        message.wait_for_publish()
    client.disconnect()
    client.loop_stop()


if __name__ == "__main__":
    main()
