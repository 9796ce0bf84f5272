"""`streamwatch check-config`: is the configuration valid, and what are its keys and defaults?"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
import textwrap
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
import orjson
import yaml

from streamwatch.commands.options import add_config_option
from streamwatch.config import Config, json_schema, load
from streamwatch.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEADER = (
    "# Every setting of streamwatch with its default. Written by `streamwatch check-config",
    "# --print-default`; keep only the lines that you change. An environment variable overrides a",
    "# key: STREAMWATCH_INGEST__FLUSH_SECONDS=1 sets `ingest.flush_seconds`. Unknown keys are",
    "# errors.",
)
_WIDTH = 100
_ATTRIBUTE = re.compile(r"^    (?P<name>\w+): (?P<text>.*)$")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand to the command line."""
    parser = subparsers.add_parser(
        "check-config",
        help="validate the configuration, or print the defaults or the schema",
        description="Validate the configuration: the file and the environment's overrides. "
        "Exit code 2 and one line naming the key when something is wrong.",
        epilog="examples:\n"
        "  streamwatch check-config -c streamwatch.yaml\n"
        "  streamwatch check-config --json            the settings in force, as JSON\n"
        "  streamwatch check-config --print-default > streamwatch.yaml\n"
        "  streamwatch check-config --schema          JSON Schema for your editor\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_option(parser)
    answer = parser.add_mutually_exclusive_group()
    answer.add_argument(
        "--print-default", action="store_true", help="print every key with its default and meaning"
    )
    answer.add_argument("--schema", action="store_true", help="print the JSON Schema of the file")
    answer.add_argument("--json", action="store_true", help="write the outcome as one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Validate and say so, or print the defaults or the schema.

    Raises:
        ConfigError: the configuration is not valid; with `--json` also told on stdout.
    """
    if args.print_default:
        sys.stdout.write(default_file())
    elif args.schema:
        sys.stdout.write(orjson.dumps(json_schema(), option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        _validate(args)
    return 0


def default_file() -> str:
    """`streamwatch.yaml` with every default and its comment, from the types in `config`."""
    return "\n".join([*_HEADER, *_section(Config(), "")]) + "\n"


def _validate(args: argparse.Namespace) -> None:
    try:
        config = load(args.config)
    except ConfigError as error:
        if args.json:
            _write_json(
                {"valid": False, "key": error.key, "problem": error.problem, "fix": error.fix}
            )
        raise
    if args.json:
        _write_json({"valid": True, "config": msgspec.to_builtins(config)})
    else:
        sys.stdout.write("the configuration is valid\n")


def _write_json(answer: dict[str, object]) -> None:
    sys.stdout.write(orjson.dumps(answer).decode() + "\n")


def _section(section: msgspec.Struct, indent: str) -> Iterator[str]:
    meanings = _meanings(type(section))
    types = get_type_hints(type(section))
    for field in section.__struct_fields__:
        value = getattr(section, field)
        meaning = meanings.get(field, "")
        if not indent:
            yield ""
        if isinstance(value, msgspec.Struct):
            yield from _comment(meaning or _summary(type(value)), indent)
            yield f"{indent}{field}:"
            yield from _section(value, indent + "  ")
            continue
        yield from _comment(meaning + _choices(types[field]), indent)
        items = [item for item in get_args(types[field]) if _is_struct(item)]
        if items and value:
            yield f"{indent}{field}:"
            for item in value:
                yield from _item(item, indent + "  ")
            continue
        for item in items:
            yield from _item_comment(item, indent)
        yield f"{indent}{field}: {_scalar(value)}"


def _item(item: msgspec.Struct, indent: str) -> Iterator[str]:
    lines = list(_section(item, indent + "  "))
    first = next(index for index, line in enumerate(lines) if not line.lstrip().startswith("#"))
    yield from (f"{indent}{line.lstrip()}" for line in lines[:first])
    yield f"{indent}- {lines[first].lstrip()}"
    yield from lines[first + 1 :]


def _item_comment(item: type[msgspec.Struct], indent: str) -> Iterator[str]:
    yield from _comment(f"A list. {_summary(item)}", indent)
    for name, meaning in _meanings(item).items():
        yield from _comment(f"`{name}`: {meaning}", indent)


def _comment(text: str, indent: str) -> Iterator[str]:
    start = f"{indent}# "
    text = text[:1].upper() + text[1:]
    yield from textwrap.wrap(text, _WIDTH, initial_indent=start, subsequent_indent=start)


def _choices(kind: object) -> str:
    """The values that a key takes, when its type lists them."""
    literal = next((part for part in (kind, *get_args(kind)) if get_origin(part) is Literal), None)
    return f" One of: {', '.join(get_args(literal))}." if literal else ""


def _scalar(value: Any) -> str:
    if isinstance(value, tuple):
        value = list(value)
    # As the value of a key, because a bare scalar is dumped with an end-of-document mark.
    line = yaml.safe_dump({"key": value}, default_flow_style=True, width=10_000)
    return line.strip().removeprefix("{key: ").removesuffix("}")


def _is_struct(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _summary(kind: type) -> str:
    return " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split())


def _meanings(kind: type) -> dict[str, str]:
    """The `Attributes:` of a docstring: name to text."""
    _, _, attributes = (inspect.getdoc(kind) or "").partition("Attributes:\n")
    meanings: dict[str, str] = {}
    name = ""
    for line in attributes.splitlines():
        match = _ATTRIBUTE.match(line)
        if match:
            name = match["name"]
            meanings[name] = match["text"]
        elif name and line.strip():
            meanings[name] += f" {line.strip()}"
    return meanings
