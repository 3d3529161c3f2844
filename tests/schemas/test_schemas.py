"""The schemas describe every member that is sent, and refuse what the parsers refuse."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from jsonschema import Draft202012Validator

from agent.metering.quantity import EXACT_MAX
from agent.reporting import envelope
from agent.reporting.acknowledgement import Acknowledgement
from agent.reporting.batch import FLAGS, SYNC_STATES, Batch
from agent.reporting.descriptor import Descriptor
from agent.reporting.event import EPOCH_REASONS, KNOWN_TYPES, Event
from agent.reporting.status import MODES, STATES, Status
from agent.reporting.wire import VERSION, WireError
from agent.resources import config_path
from tests.reporting import strategies
from tests.reporting.keys import Key
from tests.schemas.examples import EXAMPLES, HASH, RECORD, Reader, sent
from tests.schemas.schemas import ASYNCAPI, FILES, Schema, faults, load, parts, reader, writer

# ---------------------------------------------------------------------------- the schemas themselves


def every_part() -> Iterator[tuple[str, Schema]]:
    for name in FILES:
        for part in parts(load(name)):
            yield name, part


@pytest.mark.parametrize("name", FILES)
def test_a_schema_obeys_the_metaschema(name: str) -> None:
    Draft202012Validator.check_schema(load(name))


def test_the_metaschema_is_really_asked() -> None:
    with pytest.raises(Exception, match="is not valid under any of the given schemas"):
        Draft202012Validator.check_schema({"type": "integr"})


def test_every_file_is_known_to_these_tests() -> None:
    folder = config_path("schemas")
    assert sorted(path.name for path in folder.glob("*.json")) == sorted([*FILES, ASYNCAPI])


@pytest.mark.parametrize("name", FILES)
def test_a_schema_says_its_own_name(name: str) -> None:
    schema = load(name)
    assert schema["$id"] == f"https://metering-agent.example/schemas/1/{name}"
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"] and schema["description"]


def test_every_reference_leads_somewhere() -> None:
    for name in FILES:
        document = load(name)
        for ref in _references(document):
            validator = reader(ref if not ref.startswith("#") else name + ref)
            list(validator.iter_errors(None))


def _references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for each in value.values():
            yield from _references(each)
    elif isinstance(value, list):
        for each in value:
            yield from _references(each)


def test_every_member_is_documented() -> None:
    silent = [
        f"{name}: {member}"
        for name, part in every_part()
        for member, schema in part.get("properties", {}).items()
        if not schema.get("description", "").endswith((".", "+ 1."))
    ]
    assert silent == []


def test_every_integer_has_bounds_that_javascript_holds_exactly() -> None:
    integers = [(name, part) for name, part in every_part() if part.get("type") == "integer"]
    assert len(integers) >= 6
    for name, part in integers:
        assert part["maximum"] == EXACT_MAX == 2**53 - 1, name
        assert part["minimum"] in (-EXACT_MAX, 0, 1), name


def test_no_number_but_integers() -> None:
    assert [name for name, part in every_part() if part.get("type") == "number"] == []


def test_readers_are_not_told_to_refuse_what_a_later_version_adds() -> None:
    """The header is the one exception: it has exactly three members."""
    closed = [
        name
        for name, part in every_part()
        if part.get("additionalProperties") is False or "unevaluatedProperties" in part
    ]
    assert closed == ["header.json"]


def test_the_lists_of_words_are_those_of_the_code() -> None:
    common, batch, events = load("common.json")["$defs"], load("batch.json"), load("event.json")
    status, header = load("status.json")["properties"], load("header.json")["properties"]
    flags = batch["$defs"]["delta"]["properties"]["q"]
    assert set(events["$defs"]) == KNOWN_TYPES
    assert [each["if"]["properties"]["type"]["const"] for each in events["allOf"]] == list(events["$defs"])
    assert set(events["$defs"]["epoch"]["properties"]["reason"]["enum"]) == EPOCH_REASONS
    assert tuple(common["sync"]["enum"]) == SYNC_STATES
    assert (tuple(status["state"]["enum"]), tuple(status["mode"]["enum"])) == (STATES, MODES)
    assert set(flags["items"]["examples"]) == FLAGS
    assert all(f"{flag}" in flags["description"] for flag in FLAGS)
    assert set(header["typ"]["enum"]) == set(envelope.SIZE_MAX)
    assert tuple(header) == envelope.HEADER_MEMBERS


# ---------------------------------------------------------------------------- what is sent is described


@given(strategies.batches)
def test_batches_send_nothing_undescribed(batch: Batch) -> None:
    assert faults(writer("batch.json"), sent(replace(batch, records=(RECORD,)).to_payload())) == []


@given(strategies.events)
def test_events_send_nothing_undescribed(happened: Event) -> None:
    assert faults(writer("event.json"), sent(happened.to_payload())) == []


@given(strategies.descriptors)
def test_descriptors_send_nothing_undescribed(descriptor: Descriptor) -> None:
    assert faults(writer("descriptor.json"), sent(descriptor.to_payload())) == []


@given(strategies.acknowledgements)
def test_acknowledgements_send_nothing_undescribed(acknowledgement: Acknowledgement) -> None:
    assert faults(writer("acknowledgement.json"), sent(acknowledgement.to_payload())) == []


@given(strategies.statuses)
def test_statuses_send_nothing_undescribed(status: Status) -> None:
    assert faults(writer("status.json"), sent(status.to_payload())) == []


def test_headers_are_described() -> None:
    for typ in envelope.SIZE_MAX:
        jws = envelope.seal(typ, {"v": VERSION}, Key(1))
        header = json.loads(envelope.base64url_decode(jws.decode().split(".")[0]))
        assert faults(reader("header.json"), header) == []
        assert faults(reader("header.json"), {**header, "jwk": {}}) != []


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_has_every_member_that_the_schema_knows(name: str) -> None:
    """So that the mutations below reach all of them."""
    file, example, _ = EXAMPLES[name]
    assert faults(writer(file), example) == []


def test_an_undescribed_member_is_found_wherever_it_is() -> None:
    """The check that the tests above rely on can fail, in every object of every message."""
    seen = 0
    for file, example, _ in EXAMPLES.values():
        for path in objects(example):
            if "fields" in path or path[-1:] in (("heads",), ("source",)):
                continue  # their members are named by somebody else
            assert faults(writer(file), changed(example, (*path, "surplus"), 1)) != [], (file, path)
            seen += 1
    assert seen > 30


def test_an_undescribed_event_is_found() -> None:
    unknown = {"type": "firmware", "at": "2025-10-09T08:53:20.000Z", "version": "2"}
    assert faults(reader("event.json"), unknown) == []
    assert faults(writer("event.json"), unknown) != []


def test_an_enrolment_is_described() -> None:
    key = Key(3)
    payload = {"v": VERSION, "org": "zj", "agent": "gw01", "jwk": key.jwk, "at": _AT, "sw": "1.0.0"}
    assert faults(writer("enrolment.json"), payload) == []
    for name in payload:
        without = {other: value for other, value in payload.items() if other != name}
        assert faults(reader("enrolment.json"), without) != []


@pytest.mark.parametrize(
    "change",
    [{"d": "A" * 43}, {"kty": "oct"}, {"crv": "P-256"}, {"y": "A" * 43}, {"x": "A" * 42}, {"kty": "EC"}],
)
def test_a_key_is_one_of_the_two_kinds_and_public(change: dict[str, str]) -> None:
    good = {"kty": "OKP", "crv": "Ed25519", "x": "A" * 43}
    assert faults(reader("common.json#/$defs/jwk"), good) == []
    assert faults(reader("common.json#/$defs/jwk"), {**good, **change}) != []
    assert faults(reader("common.json#/$defs/jwk"), {"kty": "EC", "crv": "P-256", "x": HASH, "y": HASH}) == []


# ---------------------------------------------------------------------------- schema and parser agree

_AT = "2025-10-09T08:53:20.000Z"
DELETED = object()
VALUES: tuple[object, ...] = (
    DELETED,
    None,
    True,
    "",
    "x",
    "a b",
    "x" * 33,
    "y" * 256,
    "1.12",
    "01J",
    "2025-10-09T08:53:20Z",
    "2025-10-09T24:00:00.000Z",
    "1969-12-31T23:59:59.999Z",
    -1,
    0,
    1,
    2**53 - 1,
    2**53,
    -(2**53),
    [],
    [1],
    {},
)
"""What is put in the place of every member."""

Path = tuple[str | int, ...]


def members(value: object, at: Path = ()) -> Iterator[Path]:
    """Where every value inside a payload stands."""
    inner: Any = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for name, each in inner:
        yield (*at, name)
        yield from members(each, (*at, name))


def objects(value: object) -> Iterator[Path]:
    """Where every object inside a payload stands, the payload itself first."""
    yield from (path for path in [(), *members(value)] if isinstance(at(value, path), dict))


def at(value: Any, path: Path) -> Any:
    for name in path:
        value = value[name]
    return value


def changed(value: object, path: Path, to: object) -> Any:
    """A copy with another value in one place, or with none."""
    copy = json.loads(json.dumps(value))
    holder = at(copy, path[:-1])
    if to is DELETED:
        del holder[path[-1]]
    else:
        holder[path[-1]] = to
    return copy


def parser_takes(read: Reader, payload: object) -> bool:
    try:
        read(payload)
    except WireError:
        return False
    return True


def is_beyond_a_schema(path: Path, to: object, example: dict[str, Any]) -> bool:
    """Rules that only the parser knows, and values that it leaves to others."""
    last = path[-1]
    return (
        "jwk" in path  # the key's own module judges it
        or (last in ("source", "at") and "records" in path)  # free until the imports are defined
        or "fields" in path
        or (last == "part" and to == 2**53 - 1)  # part <= parts is judged when they are put together
        or (last in (0, 1) and "need" in path and type(to) is int)  # from <= to
        or (last in ("num", "den") and "steps" in path and type(to) is int)  # shares add up to at most 1
        or (last == "energy" and to is DELETED)  # then the factor is asked for
        or ("q" in path and isinstance(to, str))  # sorted
        or last == "type"  # another type has other members
    )


@pytest.mark.parametrize("name", EXAMPLES)
def test_schema_and_parser_refuse_the_same(name: str) -> None:
    file, example, read = EXAMPLES[name]
    assert parser_takes(read, example)
    compared = 0
    for path in members(example):
        for to in VALUES:
            if is_beyond_a_schema(path, to, example):
                continue
            if to is DELETED and isinstance(path[-1], int) and "heads" not in path:
                continue  # an array that is shorter
            payload = changed(example, path, to)
            taken = parser_takes(read, payload)
            assert taken == (faults(reader(file), payload) == []), (path, to, taken)
            compared += 1
    assert compared > 40
