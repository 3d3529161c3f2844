"""The AsyncAPI document: valid by the official schema, and the same topics, sizes and bindings as the code."""

import hashlib
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from agent.adapters import uplink
from agent.reporting import envelope, topics
from agent.resources import config_path
from tests.schemas.schemas import ASYNCAPI, FILES, load

OFFICIAL = Path(__file__).parent / "asyncapi" / "asyncapi-3.0.0.json"
SHA256 = "d4571a420e6ffb7fcc7066c95a6db1202f299a3c51daa103d0706bf30f95e626"
ADDRESSES = {
    "batch": (envelope.BATCH, topics.batch),
    "descriptor": (envelope.DESCRIPTOR, topics.descriptor),
    "status": (envelope.STATUS, topics.status),
    "enrolment": (envelope.ENROLMENT, topics.enrolment),
    "acknowledgement": (envelope.ACKNOWLEDGEMENT, topics.acknowledgement),
}
RETAINED = {"descriptor", "status", "acknowledgement"}
DOCUMENT = load(ASYNCAPI)


def faults(document: object) -> list[str]:
    """What the official schema has against a document."""
    return [
        error.message for error in Draft7Validator(json.loads(OFFICIAL.read_text())).iter_errors(document)
    ]


def resolved(ref: str) -> Any:
    """What a reference inside the document, or to a file beside it, points to."""
    file, _, pointer = ref.partition("#")
    found: Any = load(file.removeprefix("./")) if file else DOCUMENT
    for name in pointer.split("/")[1:]:
        found = found[name.replace("~1", "/").replace("~0", "~")]
    return found


def references(value: object) -> list[str]:
    if isinstance(value, list):
        return [ref for each in value for ref in references(each)]
    if not isinstance(value, dict):
        return []
    own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
    return own + [ref for each in value.values() for ref in references(each)]


def test_the_official_schema_is_the_unchanged_one_and_has_its_licence_beside_it() -> None:
    assert hashlib.sha256(OFFICIAL.read_bytes()).hexdigest() == SHA256
    assert "Apache License" in (OFFICIAL.parent / "LICENSE").read_text()
    assert "AsyncAPI Initiative" in (OFFICIAL.parent / "NOTICE").read_text()


def test_the_document_is_valid() -> None:
    assert faults(DOCUMENT) == []


@pytest.mark.parametrize(
    "break_it",
    [
        lambda document: document.pop("info"),
        lambda document: document["operations"]["sendBatch"].update(action="publish"),
        lambda document: document["operations"]["sendBatch"]["bindings"]["mqtt"].update(qos=3),
        lambda document: document["channels"]["batch"].update(adress="x"),
        lambda document: document["components"]["messages"]["batch"].update(surplus=1),
    ],
)
def test_the_official_schema_is_really_asked(break_it: Any) -> None:
    document = json.loads(json.dumps(DOCUMENT))
    break_it(document)
    assert faults(document) != []


def test_every_reference_leads_somewhere_and_every_message_has_its_schema() -> None:
    found = references(DOCUMENT)
    assert len(found) > 30
    for ref in found:
        assert resolved(ref)
    payloads = {
        name: message["payload"]["schema"]["$ref"].removeprefix("./")
        for name, message in DOCUMENT["components"]["messages"].items()
    }
    assert payloads == {name: f"{name}.json" for name in ADDRESSES}
    assert set(payloads.values()) | {"common.json", "event.json", "record.json", "header.json"} == set(FILES)


@pytest.mark.parametrize("name", ADDRESSES)
def test_a_channel_is_where_the_code_sends_to(name: str) -> None:
    typ, topic = ADDRESSES[name]
    channel = DOCUMENT["channels"][name]
    assert channel["address"].format(org="o", agent="a") == topic("o", "a")
    assert set(channel["parameters"]) == {"org", "agent"}
    message = resolved(channel["messages"][name]["$ref"])
    assert message["x-jws"] == {
        "typ": typ,
        "sizeMax": envelope.SIZE_MAX[typ],
        "protectedHeader": {"$ref": "./header.json"},
    }
    assert message["contentType"] == message["bindings"]["mqtt"]["contentType"] == uplink.CONTENT_TYPE
    assert DOCUMENT["defaultContentType"] == uplink.CONTENT_TYPE


def test_operations_are_those_of_the_agent() -> None:
    by_channel = {
        operation["channel"]["$ref"].rpartition("/")[2]: operation
        for operation in DOCUMENT["operations"].values()
    }
    assert set(by_channel) == set(ADDRESSES)
    assert len(by_channel) == len(DOCUMENT["operations"])
    for name, operation in by_channel.items():
        assert operation["action"] == ("receive" if name == "acknowledgement" else "send")
        assert operation["bindings"]["mqtt"]["qos"] == 1
        assert operation["bindings"]["mqtt"]["retain"] is (name in RETAINED)
        assert operation["messages"] == [{"$ref": f"#/channels/{name}/messages/{name}"}]


def test_the_connection_is_the_one_that_the_uplink_makes() -> None:
    given = inspect.signature(uplink.MqttUplink).parameters
    for server in DOCUMENT["servers"].values():
        bindings = server["bindings"]["mqtt"]
        assert bindings["keepAlive"] == given["keepalive_s"].default
        assert bindings["maximumPacketSize"] == uplink.PACKET_SIZE_MAX
        assert bindings["cleanSession"] is True
    will = DOCUMENT["servers"]["production"]["bindings"]["mqtt"]["lastWill"]
    assert will["topic"].format(org="o", agent="a") == topics.status("o", "a")
    assert (will["qos"], will["retain"]) == (1, True)
    status = DOCUMENT["components"]["messages"]["status"]["summary"]
    assert f"{given['will_delay_s'].default} s after the connection died" in status


def test_the_file_is_where_an_installed_agent_finds_it() -> None:
    assert config_path("schemas", ASYNCAPI).is_file()
