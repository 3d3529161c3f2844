"""`metering-agent restore`: a lost disk where nobody answers; the file of a platform, a last status, an export."""

import asyncio
import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner

from agent.adapters.control import ControlSocket
from agent.adapters.keys import PublicKeys, generate_key, load_signer
from agent.cli.chinese_restore import RESTORE as CHINESE
from agent.cli.group import main
from agent.cli.restore import ENGLISH, ended
from agent.reporting import envelope, topics
from agent.reporting.chain import ChainHead
from agent.service.acknowledge import hand_over
from agent.service.confirming import Confirming
from agent.service.dialogue import Dialogue, position_of
from agent.service.publish import Publisher
from agent.service.restore import Restorer
from agent.service.seal import Identity, Sealer
from agent.settings.values import control_socket_of
from simulators.cli import main as sim
from simulators.platform import Platform, Store, queries
from tests.service.bench import MINUTE_MS, Bench, HandClock
from tests.service.test_publish import OwnThread

WHO = Identity("org", "gw01", "carbon.example", "0.1.0")
SITE = """
[gateway]
org = "org"
agent = "gw01"
[platform]
audience = "carbon.example"
broker = "mqtt://127.0.0.1:1883"
acknowledgement = "{mode}"
acknowledgement_keys = ["platform.pem"]
[signing]
key_file = "key.pem"
[journal]
path = "journal.db"
[[lines]]
id = "hall-a"
transport = "modbus-tcp"
host = "127.0.0.1"
[[meters]]
id = "reflow-1"
line = "hall-a"
address = 1
profile = "eastron-sdm120"
step = "reflow_soldering"
"""


class Story:
    """A gateway in broker mode, its platform, and the day on which the disk was lost."""

    def __init__(self, folder: Path, mode: str = "broker") -> None:
        self.folder, self.mode, self.site = folder, mode, folder / "site.toml"
        self.site.write_text(SITE.format(mode=mode))
        self.bench = Bench(folder)
        generate_key(folder / "platform-private.pem")
        self.platform_key = load_signer(folder / "platform-private.pem")
        (folder / "platform.pem").write_text(self.platform_key.public_key.pem)
        self.clock = HandClock()
        keys = {("org", "gw01"): [self.bench.signer.public_key]}
        self.store = Store.create(folder / "platform.db")
        self.platform = Platform(
            self.store, audience=WHO.audience, signer=self.platform_key, keys=keys, clock=self.clock
        )

    def read(self, minutes: int, start: int) -> None:
        """So many minutes in which reflow-1 uses 0.10 kWh and wave-1 0.05 kWh."""
        for minute in range(start, start + minutes):
            self.bench.read({"reflow-1": 1_000 + 10 * minute, "wave-1": 500 + 5 * minute})

    def status(self) -> bytes:
        nothing = cast(Any, None)
        publisher = Publisher(WHO, nothing, nothing, self.bench.clock, self.bench.dice)
        talk = Dialogue(
            WHO, self.bench.signers, PublicKeys([]), nothing, nothing, self.bench.clock, nothing, publisher,
            mode=self.mode,
        )  # fmt: skip
        return talk.statements(position_of(self.bench.journal, with_heads=self.mode == "broker"), "s")[0]

    def send(self) -> ChainHead:
        """Everything goes to the platform; the broker's word is all that comes back."""
        head = self.bench.journal.state().head
        assert head is not None
        self.clock.now_ms += 1_000
        self.platform.receive(topics.status("org", "gw01"), self.status())
        for kept in self.bench.journal.queue(after_ordinal=0, limit=1_000):
            self.platform.receive(topics.batch("org", "gw01"), kept.jws or b"")
        hand_over(self.bench.journal, head, self.bench.clock.now_ms)
        return head

    def export(self) -> Path:
        folder = self.folder / "export"
        folder.mkdir()
        lines = [kept.jws or b"" for kept in self.bench.journal.batches_between(
            after_ordinal=0, up_to_ordinal=1_000, limit=1_000
        )]  # fmt: skip
        (folder / "evidence.jws").write_bytes(b"\n".join(lines) + b"\n")
        return folder

    def lose_the_disk(self) -> None:
        """A new journal, the old key and clock, the same meters."""
        clock, dice = self.bench.clock, self.bench.dice
        self.bench.journal.close()
        self.bench = Bench(self.folder, clock=clock, dice=dice, name="second.db")

    def booked(self) -> dict[str, int]:
        assert queries.broken_books(self.store) == []
        return {
            name: each.energy_milliwh for name, each in queries.totals(self.store)["org/gw01"].meters.items()
        }

    def desk(self) -> Confirming:
        nothing, bench = cast(Any, None), self.bench
        storage = OwnThread(bench.journal)
        publisher = Publisher(WHO, storage, nothing, bench.clock, bench.dice)
        platform = PublicKeys([self.platform_key.public_key])
        talk = Dialogue(
            WHO,
            bench.signers,
            platform,
            storage,
            nothing,
            bench.clock,
            bench.acknowledger,
            publisher,
            mode=self.mode,
        )
        restorer = Restorer(bench.meters, Sealer(WHO, bench.signers, bench.dice, bench.clock), MINUTE_MS)
        return Confirming(WHO, restorer, platform, storage, talk, bench.clock, mode=self.mode)

    def say(self, *words: str, keyboard: str | None = None) -> tuple[int, str]:
        """The command, answered by this gateway."""
        ready, loop, stop = threading.Event(), asyncio.new_event_loop(), asyncio.Event()

        def serve() -> None:
            loop.run_until_complete(self._serve(ready, stop))

        thread = threading.Thread(target=serve)
        thread.start()
        assert ready.wait(60)
        try:
            result = CliRunner().invoke(main, ["restore", "--site", str(self.site), *words], input=keyboard)
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join(60)
            loop.close()
        return result.exit_code, result.output

    async def _serve(self, ready: threading.Event, stop: asyncio.Event) -> None:
        control = ControlSocket(
            control_socket_of(self.folder / "journal.db"), {}, {"restore": self.desk().lines}
        )
        await control.open()
        ready.set()
        await stop.wait()
        await control.close()

    def heads_file(self) -> Path:
        """What the platform's operator writes, with the command that is for that."""
        key, out = self.folder / "platform-private.pem", self.folder / "heads.jws"
        self.store.close()
        result = CliRunner().invoke(
            sim,
            [
                "platform",
                "heads",
                "--store",
                str(self.folder / "platform.db"),
                "--key",
                str(key),
                "--out",
                str(out),
                "org/gw01",
            ],
        )
        assert result.exit_code == 0, result.output
        self.store = Store.create(self.folder / "platform.db")
        keys = {("org", "gw01"): [self.bench.signer.public_key]}
        self.platform = Platform(
            self.store, audience=WHO.audience, signer=self.platform_key, keys=keys, clock=self.clock
        )
        return out


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    made = Story(tmp_path)
    made.read(4, 0)
    made.send()
    yield made
    made.bench.journal.close()
    made.store.close()


CONFIRMED = ("--by", "Li Na", "--yes")


@pytest.mark.fault("F56")
def test_a_statement_of_the_platform_is_gone_on_from(story: Story) -> None:
    story.lose_the_disk()
    story.read(3, 6)
    story.send()
    assert story.booked()["reflow-1"] == 3 * 100_000, "the new chain follows nothing and waits"
    file = story.heads_file()
    code, said = story.say(str(file))
    assert code == 0 and "goes on there" in said and ENGLISH["could"] in said
    code, said = story.say(str(file), *CONFIRMED)
    assert code == 0 and said.splitlines()[-1].startswith("Done: a new chain goes on behind")
    story.read(2, 9)
    story.send()
    assert story.booked() == {"reflow-1": 10 * 100_000, "wave-1": 10 * 50_000}
    assert {row[0] for row in story.store.rows("SELECT DISTINCT kind FROM booked")} == {"delta"}
    (restart,) = story.store.rows("SELECT body FROM events WHERE type = 'restart'")
    assert json.loads(restart[0])["by"] == "Li Na" and len(json.loads(restart[0])["evidence"]) == 64
    states: dict[str, int] = dict(story.store.rows("SELECT state, count(*) FROM chains GROUP BY state"))
    assert states == {"open": 1, "closed": 2}, "the chain that was left is closed, not joined later"


def test_the_own_last_status_serves_where_the_platform_cannot_speak(story: Story) -> None:
    status = story.folder / "status.jws"
    status.write_bytes(story.status())
    story.lose_the_disk()
    story.read(2, 6)
    code, said = story.say(str(status), *CONFIRMED)
    assert code == 0, said
    story.send()
    assert story.booked() == {"reflow-1": 7 * 100_000, "wave-1": 7 * 50_000}


def test_the_last_export_serves_too(story: Story) -> None:
    folder = story.export()
    story.lose_the_disk()
    story.read(2, 6)
    code, said = story.say(str(folder), *CONFIRMED)
    assert code == 0 and "own export" in said
    story.send()
    assert story.booked() == {"reflow-1": 7 * 100_000, "wave-1": 7 * 50_000}


def test_an_export_that_is_older_than_what_was_booked_doubles_nothing(story: Story) -> None:
    folder = story.export()
    story.read(2, 4)
    story.send()
    story.lose_the_disk()
    story.read(2, 8)
    assert story.say(str(folder), *CONFIRMED)[0] == 0
    story.send()
    for _ in range(20):
        story.clock.now_ms += MINUTE_MS
        story.platform.tick(story.clock.now_ms)
    story.read(1, 10)
    story.send()
    assert story.booked() == {"reflow-1": 10 * 100_000, "wave-1": 10 * 50_000}


def test_what_is_asked_and_shown_on_the_way(story: Story) -> None:
    status = story.folder / "status.jws"
    status.write_bytes(story.status())
    story.lose_the_disk()
    story.read(1, 6)
    code, said = story.say(str(status), "--json")
    answer = json.loads(said)
    assert code == 0 and answer["done"] is False and answer["source"] == "status"
    row = next(each for each in answer["meters"] if each["meter"] == "reflow-1")
    assert (row["remark"], row["file"]["n"], row["rise_kwh"]) == ("goes-on", 3, "0.300000")
    code, said = story.say(str(status), "--yes")
    assert code == 1 and said.splitlines()[-1] == ENGLISH["nobody"]
    code, said = story.say(str(status), "--lang", "zh")
    assert code == 0 and CHINESE["could"] in said
    assert story.bench.journal.state().acked is None, "nothing of that changed anything"


def refusal(story: Story, path: Path, *words: str) -> str:
    code, said = story.say(str(path), *(words or CONFIRMED))
    assert code in (1, 2), said
    return said


def test_what_cannot_be_believed_is_refused_with_the_reason(story: Story, tmp_path: Path) -> None:
    file, story_status = tmp_path / "file", story.status()
    file.write_bytes(story_status[:-4] + b"AAAA")
    assert "not genuine" in refusal(story, file)
    file.write_bytes(b"\x00\xff not a message")
    assert "no message" in refusal(story, file)
    file.write_bytes(b"")
    assert "nothing in it says" in refusal(story, file)
    assert "neither an export" in refusal(story, tmp_path)
    packed = tmp_path / "export.zip"
    packed.write_bytes(b"PK")
    assert "unpack it" in refusal(story, packed)
    heads = story.heads_file().read_bytes()
    file.write_bytes(heads[:-6] + b"AAAAA\n")
    assert "not to be believed" in refusal(story, file)
    assert "nothing has to be restored" in refusal(story, story.heads_file())


def test_a_cut_or_changed_export_is_no_position(story: Story) -> None:
    folder = story.export()
    evidence = folder / "evidence.jws"
    lines = evidence.read_bytes().splitlines()
    evidence.write_bytes(b"\n".join([*lines[:1], *lines[2:]]) + b"\n")
    story.lose_the_disk()
    assert "does not verify" in refusal(story, folder)
    evidence.write_bytes(b"\n".join(lines)[:-40] + b"\n")
    assert "does not verify" in refusal(story, folder)


def test_an_older_word_than_the_last_is_refused(story: Story) -> None:
    first = story.heads_file().read_bytes()
    story.clock.now_ms += 1
    story.heads_file()
    story.lose_the_disk()
    story.read(1, 6)
    assert story.say(str(story.folder / "heads.jws"), *CONFIRMED)[0] == 0
    (story.folder / "heads.jws").write_bytes(first)
    assert ENGLISH["stale"] in refusal(story, story.folder / "heads.jws")


def test_where_the_platform_answers_only_its_word_counts(tmp_path: Path) -> None:
    story = Story(tmp_path, "platform")
    story.read(3, 0)
    story.send()
    folder = story.export()
    story.lose_the_disk()
    story.read(1, 6)
    assert 'acknowledgement = "platform"' in refusal(story, folder)
    assert story.say(str(story.heads_file()), *CONFIRMED)[0] == 0
    story.bench.journal.close()
    story.store.close()


def test_without_an_agent_it_says_how_to_start_one(story: Story) -> None:
    file = story.heads_file()
    result = CliRunner().invoke(main, ["restore", "--site", str(story.site), str(file)])
    assert result.exit_code == 75 and "no agent runs" in result.output


@pytest.mark.parametrize("payload", [b"[" * 40_000, b'{"heads":1,"gen":1e999,"ack_no":1}', b"[1]", b"{}"])
def test_among_words_of_the_platform_one_that_nobody_can_read_comes_last(
    story: Story, payload: bytes
) -> None:
    good = story.heads_file().read_bytes()
    parts = good.strip().split(b".")
    bad = b".".join([parts[0], envelope.base64url(payload).encode(), parts[2]])
    file = story.folder / "mixed.jws"
    file.write_bytes(bad + b"\n" + good)
    story.lose_the_disk()
    story.read(1, 6)
    code, said = story.say(str(file))
    assert code == 0 and "is a word of the platform" in said


def test_what_is_wrong_with_a_file_is_said_once(story: Story) -> None:
    file = story.folder / "notes.txt"
    file.write_text("hello\n")
    result = CliRunner().invoke(main, ["restore", "--site", str(story.site), str(file)])
    assert result.exit_code == 2 and result.stderr.count("a line in it is no message") == 1


@pytest.mark.parametrize("say", [ENGLISH, CHINESE])
def test_a_chain_behind_nothing_is_not_said_to_be_behind_something(say: Mapping[str, str]) -> None:
    assert ended(say, {"objections": [], "done": True, "head": None}) == say["done anew"]
    head = {"chain": "C", "seq": 7}
    assert "C/7" in ended(say, {"objections": [], "done": True, "head": head})


def test_the_new_chain_verifies(story: Story) -> None:
    folder = story.export()
    lines = (folder / "evidence.jws").read_bytes().splitlines()
    story.lose_the_disk()
    story.read(2, 6)
    assert story.say(str(folder), *CONFIRMED)[0] == 0
    lines += [kept.jws or b"" for kept in story.bench.journal.queue(after_ordinal=0, limit=1_000)]
    whole = story.folder / "whole.jws"
    whole.write_bytes(b"\n".join(lines) + b"\n")
    (story.folder / "agent.pem").write_text(story.bench.signer.public_key.pem)
    result = CliRunner().invoke(main, ["verify", "--key", str(story.folder / "agent.pem"), str(whole)])
    assert result.exit_code == 0, result.output
    assert envelope.typ_of(lines[-1]) == envelope.BATCH
