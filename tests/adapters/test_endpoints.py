"""`/metrics` and `/healthz` over real sockets, asked politely and otherwise."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent.adapters import endpoints
from agent.adapters.endpoints import Answer, Endpoints
from agent.adapters.health import pages_of
from agent.errors import JournalDamaged
from tests.support.eventually import eventually
from tests.support.overviews import a_line, an_overview, with_problems


class Source:
    """The overview that is told; it may fail."""

    def __init__(self) -> None:
        self.said: dict[str, Any] = with_problems(an_overview())
        self.error: Exception | None = None

    async def now(self) -> dict[str, Any]:
        if self.error is not None:
            raise self.error
        return self.said


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
async def served(source: Source) -> AsyncIterator[Endpoints]:
    face = Endpoints("127.0.0.1", 0)
    await face.open(pages_of(source.now))
    yield face
    await face.close()


async def exchange(face: Endpoints, data: bytes, *, wait: bool = True) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", face.ports[0])
    try:
        writer.write(data)
        await writer.drain()
        return await asyncio.wait_for(reader.read(), 30) if wait else b""
    finally:
        writer.close()


async def get(
    face: Endpoints, path: str, *, method: str = "GET", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: gateway",
        *(f"{name}: {text}" for name, text in headers.items()),
    ]
    answer = await exchange(face, "\r\n".join([*lines, "", ""]).encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    return int(first.split(" ")[1]), dict(line.lower().split(": ", 1) for line in rest), body


async def test_metrics_are_served(served: Endpoints) -> None:
    status, headers, body = await get(served, "/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    assert int(headers["content-length"]) == len(body)
    assert "metering_line_up" in {family.name for family in text_string_to_metric_families(body.decode())}


async def test_a_scraper_may_ask_for_openmetrics_and_with_parameters(served: Endpoints) -> None:
    status, headers, body = await get(
        served, "/metrics?x=1", Accept="application/openmetrics-text;version=1.0.0"
    )
    assert status == 200 and "openmetrics" in headers["content-type"] and body.endswith(b"# EOF\n")


async def test_a_healthy_agent_says_so(served: Endpoints) -> None:
    status, headers, body = await get(served, "/healthz")
    assert (status, json.loads(body)) == (200, {"status": "ok", "reasons": []})
    assert headers["content-type"] == "application/json"


async def test_what_can_wait_is_named_and_does_not_fail(served: Endpoints, source: Source) -> None:
    source.said = with_problems(an_overview(clock={"sync": "U", "err_ms": 2**31 - 1}))
    status, _, body = await get(served, "/healthz")
    assert (status, json.loads(body)["status"]) == (200, "attention")
    assert "timedatectl" in json.loads(body)["reasons"][0]


async def test_what_cannot_wait_fails_with_its_reason(served: Endpoints, source: Source) -> None:
    source.said = with_problems(an_overview(lines=[a_line(open=False, problem="no such device")]))
    status, _, body = await get(served, "/healthz")
    assert (status, json.loads(body)["status"]) == (503, "failing")
    assert "no such device" in json.loads(body)["reasons"][0]


async def test_an_agent_that_cannot_answer_is_failing(served: Endpoints, source: Source) -> None:
    source.error = JournalDamaged("journal.db: disk I/O error")
    assert (await get(served, "/healthz"))[0] == 503
    status, _, body = await get(served, "/metrics")
    assert status == 503 and b"disk I/O error" in body


async def test_nothing_else_is_there_and_nothing_can_be_changed(served: Endpoints) -> None:
    status, _, body = await get(served, "/")
    assert status == 404 and b"/metrics and /healthz" in body
    assert (await get(served, "/metrics", method="POST"))[0] == 405
    status, headers, body = await get(served, "/metrics", method="HEAD")
    assert status == 200 and body == b"" and int(headers["content-length"]) > 1000


@pytest.mark.parametrize(
    "rubbish",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"x: y\r\n" * 3000 + b"\r\n",
    ],
    ids=["TLS", "no target", "no host", "two hosts", "long target", "many headers"],
)
async def test_what_is_no_request_is_refused_and_the_next_one_served(
    served: Endpoints, rubbish: bytes
) -> None:
    try:
        answer = await exchange(served, rubbish)
    except ConnectionError:
        answer = b""
    assert answer == b"" or answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 431", b"HTTP/1.1 414"))
    assert (await get(served, "/healthz"))[0] == 200


async def test_slow_and_silent_clients_do_not_keep_others_out(
    served: Endpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "PATIENCE_S", 0.2)
    idle = [socket.create_connection(("127.0.0.1", served.ports[0])) for _ in range(30)]
    for connection in idle:
        connection.settimeout(30)
        assert await asyncio.to_thread(connection.recv, 1) == b"", "it was hung up on"
        connection.close()
    monkeypatch.undo()
    assert (await get(served, "/healthz"))[0] == 200


async def test_a_port_in_use_is_said_once_and_taken_when_it_is_free(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    async def page(accept: str) -> Answer:
        return Answer(200, b"here\n")

    monkeypatch.setattr(endpoints, "REOPEN_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        face = Endpoints("127.0.0.1", port)
        await face.open({"/metrics": page})
        await asyncio.sleep(0.2)
        assert face.ports == []
        assert [vars(record)["id"] for record in caplog.records] == ["M1602"]
        assert face.problem == "address already in use"
    await eventually(lambda: bool(face.ports))
    assert (await get(face, "/metrics"))[2] == b"here\n"
    assert vars(caplog.records[-1])["id"] == "M1605"
    await face.close()


async def test_after_the_end_nobody_listens(source: Source) -> None:
    face = Endpoints("127.0.0.1", 0)
    await face.open(pages_of(source.now))
    port = face.ports[0]
    await face.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
