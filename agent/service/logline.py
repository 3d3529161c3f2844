"""What a stage gives with a log call: a stable message id, and the values as pairs.

The text of a message never changes with the values, so that the same event is the same line with other pairs:

    log.warning("the meter does not answer", extra=pairs("M1203", meter=watch.meter.id))

Every call has an id of its own, and every id an entry in the catalogue, `agent/adapters/LOGS.md`; a test compares them.
Comes before: every module that logs. Comes after: `agent.adapters.logs`, which makes the line.
"""


def pairs(message_id: str | None = None, /, **values: object) -> dict[str, object]:
    """The `extra` of a log call: pairs that are printed as `key=value` in this order, and a stable message id."""
    extra: dict[str, object] = {"pairs": values}
    if message_id is not None:
        extra["id"] = message_id
    return extra
