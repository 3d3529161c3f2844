"""`adjust`, `witness`, `manual` and what `verify` makes of them: exact numbers only, raw and adjusted energy apart."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent.adapters.control import ControlSocket
from agent.cli.correct import hash_of
from agent.cli.group import main
from agent.service.correcting import Corrections
from agent.settings.values import control_socket_of
from tests.service.bench import Bench
from tests.service.test_publish import OwnThread


class Gateway:
    """A small agent that answers on its control socket."""

    def __init__(self, folder: Path) -> None:
        self.site, self.folder = folder / "site.toml", folder
        self.site.write_text('[journal]\npath = "journal.db"\n')
        self.bench = Bench(folder)
        for minute in range(4):
            self.bench.read({"reflow-1": 500_000 + minute, "wave-1": 100 + minute})

    def serve(self, ready: threading.Event, loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
        async def run() -> None:
            desk = Corrections(self.bench.meters, OwnThread(self.bench.journal), self.bench.clock)
            socket = ControlSocket(control_socket_of(self.folder / "journal.db"), {"state": desk.answer})
            await socket.open()
            ready.set()
            await stop.wait()
            await socket.close()

        loop.run_until_complete(run())

    def say(self, *words: str) -> tuple[int, str]:
        result = CliRunner().invoke(main, [words[0], "--site", str(self.site), *words[1:]])
        return result.exit_code, result.output

    def evidence(self) -> Path:
        path = self.folder / "evidence.jws"
        jws = [kept.jws or b"" for kept in self.bench.journal.queue(after_ordinal=0, limit=1000)]
        path.write_bytes(b"\n".join(jws) + b"\n")
        (self.folder / "agent.pem").write_text(self.bench.signer.public_key.pem)
        return path


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    made, ready = Gateway(tmp_path), threading.Event()
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=made.serve, args=(ready, loop, stop))
    thread.start()
    assert ready.wait(60)
    yield made
    loop.call_soon_threadsafe(stop.set)
    thread.join(60)
    loop.close()


def adjustment(gateway: Gateway, *other: str) -> tuple[str, ...]:
    photo = gateway.folder / "photo.jpg"
    photo.write_bytes(b"a plate")
    run = ("--epoch", "1", "--deltas", "1..3", "--reason", "CT is 200/5", "--evidence", str(photo))
    return ("adjust", "reflow-1", *run, "--by", "Li Wei", *other)


def test_an_adjustment_from_the_keyboard_to_the_auditor(gateway: Gateway) -> None:
    code, text = gateway.say(*adjustment(gateway, "--factor", "200/150", "--yes"))
    assert code == 0, text
    assert "their energy times 4/3" in text
    assert hash_of(gateway.folder / "photo.jpg") in text
    gateway.bench.read({"reflow-1": 500_007})
    file = gateway.evidence()
    result = CliRunner().invoke(main, ["verify", "--key", str(gateway.folder / "agent.pem"), str(file)])
    assert result.exit_code == 0, result.output
    assert "ADJUSTMENTS (the totals above are raw" in result.output
    said = CliRunner().invoke(
        main, ["verify", "--json", "--key", str(gateway.folder / "agent.pem"), str(file)]
    )
    report = json.loads(said.output)
    raw, run = 70_000, 30_000  # 10 Wh a count: seven, and the three that are adjusted
    assert report["by_meter"]["reflow-1"] == raw
    figures = report["corrections"]["by_meter"]["reflow-1"]
    assert figures["raw"] == str(raw)
    assert figures["adjusted"] == figures["estimated"] == str(raw + run // 3)
    assert figures["bound"] == "0"
    assert "wave-1" not in report["corrections"]["by_meter"]


def test_an_estimate_has_a_bound_and_moves_no_adjusted_energy(gateway: Gateway) -> None:
    code, text = gateway.say(*adjustment(gateway, "--energy", "-0.012345", "--bound", "0.5", "--yes"))
    assert code == 0, text
    gateway.bench.read({"reflow-1": 500_003})
    key = str(gateway.folder / "agent.pem")
    said = CliRunner().invoke(main, ["verify", "--json", "--key", key, str(gateway.evidence())])
    figures = json.loads(said.output)["corrections"]["by_meter"]["reflow-1"]
    assert figures["adjusted"] == figures["raw"]
    assert int(figures["estimated"]) == int(figures["raw"]) - 12_345
    assert figures["bound"] == "500000"


def test_through_a_pipe_adjusted_energy_is_not_claimed(gateway: Gateway) -> None:
    gateway.say(*adjustment(gateway, "--factor", "1.25", "--yes"))
    gateway.bench.read({"reflow-1": 500_007})
    words = ["verify", "--json", "--key", str(gateway.folder / "agent.pem"), "-"]
    data = gateway.evidence().read_bytes()
    assert json.loads(CliRunner().invoke(main, words, input=data).output)["corrections"] is None


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--factor", "0"), "a factor of 0"),
        (("--factor", "1.3e0"), "not an exact factor"),
        (("--factor", "-4/3"), "not an exact factor"),
        (("--energy", "1.2345678", "--bound", "1"), "at most six decimals"),
        (("--energy", "5"), "give either"),
        (("--factor", "2", "--energy", "5", "--bound", "1"), "give either"),
        (("--energy", "5", "--bound", "-1"), "cannot be negative"),
        (("--factor", "2", "--deltas", "3..1"), "not a run of deltas"),
        (("--factor", "2", "--by", ""), "missing: --by"),
    ],
)
def test_numbers_that_are_not_exact_are_refused(
    gateway: Gateway, words: tuple[str, ...], sentence: str
) -> None:
    code, text = gateway.say(*adjustment(gateway, *words, "--yes"))
    assert code == 2
    assert sentence in text
    assert gateway.bench.journal.statements() == []


def test_without_a_yes_nothing_is_noted(gateway: Gateway) -> None:
    code, text = gateway.say(*adjustment(gateway, "--factor", "2"))
    assert code == 0
    assert "Nothing is noted" in text
    assert gateway.bench.journal.statements() == []
    code, text = gateway.say(*adjustment(gateway, "--factor", "2", "--deltas", "1..9"))
    assert code == 1
    assert "delta 9 of reflow-1, epoch 1, is not sealed yet; the newest is 3" in text


def test_displays_words_and_the_list(gateway: Gateway) -> None:
    assert gateway.say("witness", "wave-1", "1.03", "--by", "Li", "--yes")[0] == 0
    assert gateway.say("manual", "wave-1", "2", "door open", "--epoch", "1", "--by", "Li", "--yes")[0] == 0
    assert gateway.say("witness", "nobody", "1.03", "--by", "Li", "--yes")[0] == 1
    code, text = gateway.say("adjust", "--list")
    assert code == 0
    assert "shows 1.03 kWh" in text
    assert "door open" in text
    assert gateway.say("adjust", "--undo", "2")[0] == 0
    assert gateway.say("adjust", "--undo", "2")[0] == 1


def test_every_word_is_said_in_chinese_too(gateway: Gateway) -> None:
    code, text = gateway.say(*adjustment(gateway, "--factor", "200/150", "--lang", "zh"))
    assert code == 0 and "其电量乘以 4/3" in text and "尚未登记" in text
    code, text = gateway.say(
        *adjustment(gateway, "--factor", "4/3", "--deltas", "1..9", "--yes", "--lang", "zh")
    )
    assert code == 1 and text.startswith("拒绝：reflow-1 第 1 计量段的增量 9 尚未封存")
    code, text = gateway.say("witness", "reflow-1", "5000.1", "--by", "李娜", "--yes", "--lang", "zh")
    assert code == 0 and "声明人 李娜" in text and "已登记为声明 1" in text
    assert "等待边界" in gateway.say("adjust", "--list", "--lang", "zh")[1]
