"""The broker that other tests lean on: it listens on loopback only, comes back, forgets or remembers as asked."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from tests.support import processes
from tests.support.mosquitto import Mosquitto

pytestmark = pytest.mark.mosquitto


class Client:
    """A small MQTT 5 client that keeps what happened to it."""

    def __init__(self, broker: Mosquitto, name: str, *, user: str = "", password: str = "") -> None:
        self.connected: list[str] = []
        self.received: list[bytes] = []
        self.published: list[str] = []
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=name, protocol=MQTTProtocolVersion.MQTTv5
        )
        if user:
            self._client.username_pw_set(user, password)
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message
        self._client.on_publish = self._on_publish
        keep_session = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        keep_session.SessionExpiryInterval = 3600
        self._client.connect("127.0.0.1", broker.port, clean_start=False, properties=keep_session)
        self._client.loop_start()
        wait_until(lambda: bool(self.connected))

    def subscribe(self, topic: str) -> None:
        done: list[int] = []
        self._client.on_subscribe = lambda *_: done.append(1)
        self._client.subscribe(topic, qos=1)
        wait_until(lambda: bool(done))

    def publish(self, topic: str, payload: bytes) -> str:
        before = len(self.published)
        self._client.publish(topic, payload, qos=1)
        wait_until(lambda: len(self.published) > before)
        return self.published[-1]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(
        self,
        client: mqtt.Client,
        data: object,
        flags: mqtt.ConnectFlags,
        reason: ReasonCode,
        properties: object,
    ) -> None:
        self.connected.append(str(reason))

    def _on_message(self, client: mqtt.Client, data: object, message: mqtt.MQTTMessage) -> None:
        self.received.append(bytes(message.payload))

    def _on_publish(
        self, client: mqtt.Client, data: object, mid: int, reason: ReasonCode, properties: object
    ) -> None:
        self.published.append(str(reason))


def wait_until(condition: Callable[[], bool], limit_s: int = 60) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def answers(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=1):
            return True
    except OSError:
        return False


def test_listens_on_loopback_and_nowhere_else(mosquitto: Mosquitto) -> None:
    assert mosquitto.url == f"mqtt://127.0.0.1:{mosquitto.port}"
    assert answers("127.0.0.1", mosquitto.port)
    listening = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    hexadecimal = f":{mosquitto.port:04X}"
    places = {
        line.split()[1]
        for line in listening.splitlines()
        if line.split()[1].endswith(hexadecimal) and line.split()[3] == "0A"
    }
    assert places == {f"0100007F{hexadecimal}"}


def test_a_message_goes_through_and_nobody_listening_is_said(mosquitto: Mosquitto) -> None:
    reader, writer = Client(mosquitto, "reader"), Client(mosquitto, "writer")
    reader.subscribe("a/b")
    assert writer.publish("a/b", b"1") == "Success"
    wait_until(lambda: reader.received == [b"1"])
    assert writer.publish("nobody/here", b"2") == "No matching subscribers"
    reader.close()
    writer.close()


def test_stop_frees_the_port_and_start_takes_it_again(mosquitto: Mosquitto) -> None:
    port = mosquitto.port
    mosquitto.stop()
    assert not mosquitto.running
    assert not answers("127.0.0.1", port)
    mosquitto.start()
    assert mosquitto.port == port
    assert answers("127.0.0.1", port)


def test_kill_loses_what_is_not_stored(mosquitto: Mosquitto) -> None:
    away = Client(mosquitto, "away")
    away.subscribe("a/b")
    away.close()
    mosquitto.kill()
    mosquitto.start()
    writer = Client(mosquitto, "writer")
    assert writer.publish("a/b", b"1") == "No matching subscribers"
    writer.close()


def test_persistence_keeps_a_session_over_a_kill(mosquitto_on_disk: Mosquitto) -> None:
    broker = mosquitto_on_disk
    away = Client(broker, "away")
    away.subscribe("a/b")
    away.close()
    writer = Client(broker, "writer")
    assert writer.publish("a/b", b"kept") == "Success"
    writer.close()
    stored = broker.directory / "mosquitto.db"  # replaced as a whole at every change
    wait_until(lambda: stored.exists() and b"kept" in stored.read_bytes())
    broker.kill()
    broker.start()
    back = Client(broker, "away")
    wait_until(lambda: back.received == [b"kept"])
    back.close()


def test_passwords_and_access_list(tmp_path: Path) -> None:
    acl = "user gw01\ntopic write allowed\n"
    with Mosquitto(users={"gw01": "right", "reader": "r"}, acl=acl, directory=tmp_path) as broker:
        wrong = Client(broker, "wrong", user="gw01", password="wrong")
        assert wrong.connected[0] == "Not authorized"
        wrong.close()
        right = Client(broker, "right", user="gw01", password="right")
        assert right.connected == ["Success"]
        assert right.publish("forbidden", b"1") == "Not authorized"
        assert right.publish("allowed", b"1") == "No matching subscribers"
        right.close()
        broker.users = {"gw01": "changed"}
        broker.restart()
        changed = Client(broker, "right", user="gw01", password="changed")
        assert changed.connected == ["Success"]
        changed.close()


def test_freeze_holds_answers_and_thaw_lets_them_go(mosquitto: Mosquitto) -> None:
    writer = Client(mosquitto, "writer")
    mosquitto.freeze()
    writer._client.publish("a", b"1", qos=1)
    time.sleep(0.3)
    assert writer.published == []
    mosquitto.thaw()
    wait_until(lambda: len(writer.published) == 1)
    writer.close()


def test_a_configuration_that_cannot_work_is_reported_with_the_log(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="nonsense"), Mosquitto(directory=tmp_path, extra=["nonsense 1"]):
        pytest.fail("it started")


def test_a_port_in_use_is_not_mistaken_for_ours(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        broker = Mosquitto(directory=tmp_path, port=other.getsockname()[1])
        with pytest.raises(RuntimeError, match="did not start"):
            broker.start()
        broker.close()


def test_the_broker_dies_with_the_run_that_started_it(tmp_path: Path) -> None:
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from tests.support.mosquitto import Mosquitto\n"
        "broker = Mosquitto(directory=Path(sys.argv[1])).start()\n"
        "print(broker.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    root = Path(__file__).resolve().parents[2]
    run = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], cwd=root, stdout=subprocess.PIPE, text=True
    )
    assert run.stdout is not None
    broker_pid = int(run.stdout.readline())
    assert Path(f"/proc/{broker_pid}").exists()
    run.send_signal(signal.SIGKILL)
    run.wait()
    run.stdout.close()
    wait_until(lambda: not _alive(broker_pid))


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_stop_kills_what_does_not_listen(tmp_path: Path) -> None:
    deaf = processes.start(
        ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"], tmp_path / "log"
    )
    wait_until(lambda: "ready" in (tmp_path / "log").read_text())
    assert processes.stop(deaf, timeout_s=1) == -signal.SIGKILL
