"""The platform as a process: paho on both ends, our broker or mosquitto in the middle, kills at bad moments."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.adapters.keys import PublicKeys, generate_key, load_public_key, load_signer
from agent.errors import ConfigError
from agent.reporting import topics
from agent.reporting.acknowledgement import Acknowledgement
from agent.reporting.envelope import ACKNOWLEDGEMENT, open_sealed
from simulators.broker import ALWAYS, Broker, Faults
from simulators.platform import Store, queries
from simulators.platform.serve import BrokerAddress
from tests.simulators.chains import AUDIENCE, Gateway
from tests.simulators.mqtt_client import Client, client
from tests.support import processes
from tests.support.mosquitto import Mosquitto

ROOT = Path(__file__).parents[2]
SIMULATOR = [sys.executable, "-c", "from simulators.cli import main; main()"]
ACK_TOPIC = topics.acknowledgement("zj-meterworks", "gw01")


class PlatformProcess:
    """`metering-sim platform` with its keys and store in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, folder / "platform.db"
        self.log = folder / "platform.log"
        agent = generate_key(folder / "agent-key.pem")
        (folder / "agent.pem").write_text(agent.pem)
        (folder / "platform.pem").write_text(generate_key(folder / "platform-key.pem").pem)
        self.process: subprocess.Popen[bytes] | None = None

    def gateway(self) -> Gateway:
        """A gateway whose key the platform trusts."""
        return Gateway(key=load_signer(self.folder / "agent-key.pem"))

    def start(self, url: str) -> None:
        """Start serving."""
        options = {
            "--broker": url,
            "--store": str(self.store),
            "--key": str(self.folder / "platform-key.pem"),
            "--audience": AUDIENCE,
            "--trust": f"zj-meterworks/gw01={self.folder / 'agent.pem'}",
        }
        words = [word for pair in options.items() for word in pair]
        self.process = processes.start([*SIMULATOR, "platform", "serve", *words], self.log, directory=ROOT)

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            processes.kill(self.process)
            self.process = None

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        self.process = None
        return code

    async def ready(self, times: int = 1) -> None:
        """Wait until it has connected so many times."""
        async with asyncio.timeout(60):
            while self.log.read_text().count("connected to") < times:  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(0.05)

    async def ask(self, *words: str) -> str:
        """Run a question on the store; returns what it printed."""
        process = await asyncio.create_subprocess_exec(
            *SIMULATOR,
            "platform",
            *words,
            "--store",
            str(self.store),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate()
        assert process.returncode == 0
        return output.decode()

    def opened(self, payload: bytes) -> Acknowledgement:
        """An acknowledgement, checked with the platform's public key."""
        ring = PublicKeys([load_public_key(self.folder / "platform.pem")])
        return Acknowledgement.from_payload(open_sealed(payload, ACKNOWLEDGEMENT, ring).payload)

    def booked(self) -> dict[str, int]:
        """Energy by meter, after the books were checked."""
        store = Store.read(self.store)
        assert queries.broken_books(store) == []
        assert queries.alarms(store) == []
        total = queries.totals(store)["zj-meterworks/gw01"]
        return {meter: each.energy_milliwh for meter, each in total.meters.items()}


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[PlatformProcess]:
    """A platform that is not started yet, and is killed at the end."""
    folder = tmp_path / "platform"
    folder.mkdir()
    made = PlatformProcess(folder)
    yield made
    made.kill()


async def deliver(sender: Client, platform: PlatformProcess, gateway: Gateway, wait_s: float = 3) -> None:
    """Publish what is not acknowledged, again and again, until the last batch is."""
    done = -1
    async with asyncio.timeout(120):
        while done < len(gateway.line) - 1:
            for sealed in gateway.line[done + 1 :][:64]:
                sender.paho.publish(sealed.topic, sealed.jws, qos=1)
            done = max(done, await acknowledged(sender, platform, gateway, done, wait_s))


async def acknowledged(
    sender: Client, platform: PlatformProcess, gateway: Gateway, done: int, wait_s: float
) -> int:
    """Wait for an acknowledgement that moves on; returns the place of its head in the line, or where it was."""
    places = {sealed.head: place for place, sealed in enumerate(gateway.line)}
    try:
        async with asyncio.timeout(wait_s):
            while True:
                topic, payload, _ = await sender.message(wait_s)
                head = platform.opened(payload).head
                assert topic == ACK_TOPIC
                if head is not None and places[head] > done:
                    return places[head]
    except TimeoutError:
        return done


async def test_from_gateway_to_books_through_our_broker(platform: PlatformProcess) -> None:
    gateway = platform.gateway()
    gateway.intervals(100)
    async with Broker() as broker:
        platform.start(broker.url)
        await platform.ready()
        async with client(broker.url, "gw01") as sender:
            await sender.subscribe(ACK_TOPIC)
            await deliver(sender, platform, gateway)
            said = json.loads(await platform.ask("totals", "--json"))["zj-meterworks/gw01"]
            assert said["meters"]["m1"]["milliwh"] == 100_000
            assert said["meters"]["m1"]["kwh"] == "0.100000"
            assert said["meters"]["m1"]["deltas"] == 100
            assert said["steps"]["step_m2"] == {"milliwh": 100_000, "kwh": "0.100000"}
            assert json.loads(await platform.ask("gaps", "--json")) == []
            assert "the books add up" in await platform.ask("report")
        assert platform.stop() == 0
    assert platform.booked() == {"m1": 100_000, "m2": 100_000}


async def test_a_status_is_answered_through_the_broker(platform: PlatformProcess) -> None:
    gateway = platform.gateway()
    async with Broker() as broker:
        platform.start(broker.url)
        await platform.ready()
        async with client(broker.url, "gw01") as sender:
            await sender.subscribe(ACK_TOPIC)
            status = gateway.status(need_heads=True)
            await sender.publish(status.topic, status.jws, retain=True)
            answer = platform.opened((await sender.message())[1])
            assert (answer.session, answer.head, answer.heads) == ("session-1", None, {})


@pytest.mark.fault("F63")
async def test_the_broker_loses_everything_and_the_platform_comes_back(platform: PlatformProcess) -> None:
    gateway = platform.gateway()
    broker = Broker(faults=Faults(duplicate=ALWAYS, topics="kwh/v1/+/+/up/batch"))
    await broker.start()
    platform.start(broker.url)
    await platform.ready()
    gateway.intervals(30)
    async with client(broker.url, "gw01") as sender:
        await sender.subscribe(ACK_TOPIC)
        await deliver(sender, platform, gateway)
    await broker.stop()
    await broker.start()
    await platform.ready(times=2)
    gateway.intervals(30)
    async with client(broker.url, "gw01-again") as sender:
        await sender.subscribe(ACK_TOPIC)
        head = platform.opened((await sender.message())[1]).head
        assert head == gateway.line[29].head, "after a reconnect the head is told anew"
        await deliver(sender, platform, gateway)
    assert platform.stop() == 0
    await broker.stop()
    assert platform.booked() == {"m1": 60_000, "m2": 60_000}


@pytest.mark.fault("F63", "F65")
async def test_batches_that_were_acknowledged_and_forgotten_by_the_broker_are_not_lost(
    platform: PlatformProcess,
) -> None:
    gateway = platform.gateway()
    gateway.intervals(40)
    faults = Faults(forget=25, topics="kwh/v1/+/+/up/batch")
    async with Broker(faults=faults) as broker:
        platform.start(broker.url)
        await platform.ready()
        async with client(broker.url, "gw01") as sender:
            await sender.subscribe(ACK_TOPIC)
            await deliver(sender, platform, gateway)
    assert platform.booked() == {"m1": 40_000, "m2": 40_000}


async def killed_while_batches_flow(platform: PlatformProcess, url: str) -> None:
    """Three kills in the middle of the stream; each time it starts again on the same file."""
    gateway = platform.gateway()
    gateway.intervals(400)
    platform.start(url)
    await platform.ready()
    async with client(url, "gw01") as sender:
        await sender.subscribe(ACK_TOPIC)
        delivery = asyncio.ensure_future(deliver(sender, platform, gateway, wait_s=1))
        for times in (2, 3, 4):
            await asyncio.sleep(0.35)
            platform.kill()
            platform.start(url)
            await platform.ready(times)
        await delivery
    assert platform.stop() == 0
    assert platform.booked() == {"m1": 400_000, "m2": 400_000}


async def test_killed_three_times_while_batches_flow(platform: PlatformProcess) -> None:
    async with Broker() as broker:
        await killed_while_batches_flow(platform, broker.url)


@pytest.mark.mosquitto
async def test_killed_three_times_while_batches_flow_through_mosquitto(
    platform: PlatformProcess, mosquitto: Mosquitto
) -> None:
    await killed_while_batches_flow(platform, mosquitto.url)


@pytest.mark.fault("F63")
@pytest.mark.mosquitto
async def test_mosquitto_is_killed_while_batches_flow(
    platform: PlatformProcess, mosquitto: Mosquitto
) -> None:
    gateway = platform.gateway()
    gateway.intervals(200)
    platform.start(mosquitto.url)
    await platform.ready()
    for times in (2, 3):
        sender = Client(f"gw01-{times}")
        await sender.connect(mosquitto.url)
        await sender.subscribe(ACK_TOPIC)
        for sealed in gateway.line[: 70 * (times - 1)]:
            sender.paho.publish(sealed.topic, sealed.jws, qos=1)
        await asyncio.sleep(0.1)
        mosquitto.kill()
        sender.stop()
        mosquitto.start()
        await platform.ready(times)
    async with client(mosquitto.url, "gw01") as sender:
        await sender.subscribe(ACK_TOPIC)
        await deliver(sender, platform, gateway)
    assert platform.stop() == 0
    assert platform.booked() == {"m1": 200_000, "m2": 200_000}


async def test_a_second_platform_on_the_same_store_is_refused(platform: PlatformProcess) -> None:
    async with Broker() as broker:
        platform.start(broker.url)
        await platform.ready()
        with pytest.raises(ConfigError, match="in use by another platform"):
            Store.create(platform.store)


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "notes.txt"
    foreign.write_text("not a database, but long enough to be looked at as one" * 100)
    for opening in (Store.create, Store.read):
        with pytest.raises(ConfigError):
            opening(foreign)
    with pytest.raises(ConfigError):
        Store.read(tmp_path / "missing.db")


@pytest.mark.parametrize(
    "url", ["http://broker", "mqtt://", "broker:1883", "mqtt://host:port", "mqtt://h:99999"]
)
def test_an_address_that_is_no_brokers_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        BrokerAddress.parse(url)


def test_an_address_with_everything() -> None:
    address = BrokerAddress.parse("mqtts://gw%40x:s%3Acret@broker.grid.example", ca_file=Path("ca.pem"))
    assert (address.host, address.port, address.tls) == ("broker.grid.example", 8883, True)
    assert (address.user, address.password, address.ca_file) == ("gw@x", "s:cret", Path("ca.pem"))
