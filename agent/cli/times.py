"""Times on the command line: ISO 8601, UTC unless they say otherwise."""

from datetime import UTC, datetime

import click


class Moment(click.ParamType[int]):
    """A day or a time, as UTC Unix ms."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(
                f"{value!r} is not a time such as 2026-03-01, 2026-03-01T08:00 (UTC) or 2026-03-01T08:00+08:00",
                param,
                ctx,
            )
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        found_ms = ms_of(moment)
        if found_ms < 0:
            self.fail(f"{value!r} is before 1970", param, ctx)
        return found_ms


def ms_of(moment: datetime) -> int:
    """A time that knows its offset, as UTC Unix ms; by integers alone."""
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000 + since.microseconds // 1_000
