"""The schemas of config/schemas, loaded as a stranger would: by their `$id`, without a network.

`reader` judges as the schemas say: unknown members pass, because minor versions only add some. `writer` judges what we
send: a member that no schema describes is a fault. It is the same schema with `unevaluatedProperties: false` wherever
an object is described.
"""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from agent.resources import config_path

Schema = dict[str, Any]

FILES = tuple(
    f"{name}.json"
    for name in (
        "acknowledgement",
        "batch",
        "common",
        "descriptor",
        "enrolment",
        "event",
        "header",
        "record",
        "status",
    )
)
ASYNCAPI = "asyncapi.json"

# Keywords below which a schema describes a part of the value. Below the others it speaks of the same value again.
_OF_A_PART = ("items", "additionalProperties")
_OF_MANY_PARTS = ("properties", "$defs")
_OF_PARTS_IN_ORDER = ("prefixItems",)


def load(name: str) -> Schema:
    """One file of config/schemas."""
    document: Schema = json.loads(config_path("schemas", name).read_text("utf-8"))
    return document


def parts(schema: Schema) -> Iterator[Schema]:
    """The schema itself and every schema inside it that describes a value of its own."""
    yield schema
    inside: list[Any] = [schema[keyword] for keyword in _OF_A_PART if keyword in schema]
    for keyword in _OF_MANY_PARTS:
        inside += schema.get(keyword, {}).values()
    for keyword in _OF_PARTS_IN_ORDER:
        inside += schema.get(keyword, [])
    for each in inside:
        if isinstance(each, dict):
            yield from parts(each)


def _strict(schema: Schema) -> Schema:
    copy: Schema = json.loads(json.dumps(schema))
    for part in parts(copy):
        if "properties" in part:
            part["unevaluatedProperties"] = False
    return copy


def _validator(name: str, *, strict: bool) -> Draft202012Validator:
    documents = {file: _strict(load(file)) if strict else load(file) for file in FILES}
    registry: Registry[Any] = Registry().with_resources(
        (document["$id"], Resource.from_contents(document, default_specification=DRAFT202012))
        for document in documents.values()
    )
    file, _, definition = name.partition("#")
    return Draft202012Validator({"$ref": documents[file]["$id"] + f"#{definition}"}, registry=registry)


@cache
def reader(name: str) -> Draft202012Validator:
    """The schema as it stands; `name` is a file, or a file with a JSON pointer after `#`."""
    return _validator(name, strict=False)


@cache
def writer(name: str) -> Draft202012Validator:
    """The same schema, for what is sent."""
    return _validator(name, strict=True)


def faults(validator: Draft202012Validator, value: object) -> list[str]:
    """What the schema has against a value, empty if nothing."""
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]
