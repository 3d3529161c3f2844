"""The answers of `/metrics` and `/healthz`, from the overview that they are given.

`/healthz` answers 200 while the agent does its work and 503 where kWh wait or resolution is lost until a person acts:
exactly where `metering-agent status` marks something with "!!". What else needs attention is named in the body.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from agent.adapters.endpoints import Answer, Page
from agent.adapters.metrics import Metrics
from agent.errors import MeteringError
from agent.service.advice import ERROR

Now = Callable[[], Awaitable[Mapping[str, Any]]]
"""Gives the overview of this moment."""


def pages_of(now: Now) -> dict[str, Page]:
    """The paths and what they answer."""
    metrics = Metrics()

    async def show_metrics(accept: str) -> Answer:
        try:
            body, content_type = metrics.text(await now(), accept)
        except MeteringError as error:
            return Answer(503, f"{error}\n".encode())
        return Answer(200, body, content_type)

    async def show_health(accept: str) -> Answer:
        try:
            return health(await now())
        except MeteringError as error:
            return _health(503, "failing", [str(error)])

    return {"/metrics": show_metrics, "/healthz": show_health}


def health(said: Mapping[str, Any]) -> Answer:
    """How the agent is, for a program that only wants yes or no."""
    problems = said["problems"]
    reasons = [f"{problem['text']}; {problem['remedy']}" for problem in problems]
    if any(problem["gravity"] == ERROR for problem in problems):
        return _health(503, "failing", reasons)
    return _health(200, "attention" if problems else "ok", reasons)


def _health(status: int, word: str, reasons: list[str]) -> Answer:
    body = json.dumps({"status": word, "reasons": reasons}, ensure_ascii=False)
    return Answer(status, body.encode() + b"\n", "application/json")
