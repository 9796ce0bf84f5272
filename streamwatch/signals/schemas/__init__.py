"""The published JSON Schemas of everything streamwatch writes, and of `streamwatch.yaml`.

Each is made from the struct that encodes and decodes the format, and from its docstring, so that a
schema cannot say something else than the code. `python -m streamwatch.signals.schemas` writes the
files beside this module; a test fails when they are out of date.
"""

from __future__ import annotations

import re
from inspect import cleandoc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from streamwatch.config import Config
from streamwatch.counts import WIRE_VERSION, CountsBatch, DeploymentEvent, Watermarks
from streamwatch.deadletters import DeadLetter
from streamwatch.detect.verdict import Verdict
from streamwatch.signals.envelope import Signal

if TYPE_CHECKING:
    from collections.abc import Iterator

DIALECT = "https://json-schema.org/draft/2020-12/schema"

#: Name of the schema → what it describes. A name is a part of the `$id` and the file's name.
FORMATS: dict[str, type[msgspec.Struct]] = {
    "counts": CountsBatch,
    "watermarks": Watermarks,
    "deployment": DeploymentEvent,
    "verdict": Verdict,
    "signal": Signal,
    "dead-letter": DeadLetter,
    "config": Config,
}

_SECTION = re.compile(r"^(\w+):$")
_ATTRIBUTE = re.compile(r"^ {4}(\w+): (.*)$")


def schema(name: str) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of one format.

    Args:
        name: a key of `FORMATS`.

    Raises:
        ValueError: a docstring describes an attribute that its struct does not have.
    """
    struct = FORMATS[name]
    made = msgspec.json.schema(struct)
    definitions: dict[str, Any] = made["$defs"]
    for title, definition in definitions.items():
        if "properties" in definition:
            _describe(title, definition)
    top = definitions[struct.__name__]
    if "version" in top["properties"]:
        top["properties"]["version"] |= {"const": WIRE_VERSION}
    return {
        "$schema": DIALECT,
        "$id": f"urn:streamwatch:schema:{name}:{WIRE_VERSION}",
        "title": f"streamwatch {name}",
        "description": top["description"],
        **made,
    }


def path(name: str) -> Path:
    """Where the schema of a format is published."""
    return Path(__file__).with_name(f"{name}.json")


def text(name: str) -> str:
    """The content of the published file."""
    return msgspec.json.format(msgspec.json.encode(schema(name)), indent=2).decode() + "\n"


def _describe(title: str, definition: dict[str, Any]) -> None:
    """Move what the docstring says of each attribute to the property that it is about."""
    paragraphs, attributes = _split(cleandoc(definition.get("description", "")))
    definition["description"] = paragraphs
    properties = definition["properties"]
    for name, description in attributes:
        if name not in properties:
            raise ValueError(f"{title}'s docstring describes {name}, which it does not have")
        properties[name] = {"description": description, **properties[name]}


def _split(docstring: str) -> tuple[str, list[tuple[str, str]]]:
    lines = docstring.splitlines()
    begin = next((i for i, line in enumerate(lines) if _SECTION.match(line)), len(lines))
    return "\n".join(lines[:begin]).strip(), list(_attributes(lines[begin:]))


def _attributes(lines: list[str]) -> Iterator[tuple[str, str]]:
    name, words = "", [""]
    for line in lines:
        match = _ATTRIBUTE.match(line)
        if match:
            if name:
                yield name, " ".join(words)
            name, words = match[1], [match[2]]
        else:
            words.append(line.strip())
    if name:
        yield name, " ".join(words).strip()
