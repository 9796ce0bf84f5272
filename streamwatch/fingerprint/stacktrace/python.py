"""Python traces: chained blocks, exception groups, carets of 3.11, repeated-line notes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from streamwatch.fingerprint.stacktrace.model import Frame, Raised, has_frames
from streamwatch.fingerprint.words import word_set

_TRACEBACK = "Traceback (most recent call last):"
_FRAME = re.compile(r'^\s*File "(?P<path>[^"]*)", line \d+(?:, in (?P<function>.+?))?\s*$')
_TYPE = re.compile(
    r"(?P<type>[^\W\d]\w*(?:\.[^\W\d]\w*|\.<locals>)*)(?:: |:?$)",
)
_CHAINED = (
    "The above exception was the direct cause of the following exception:",
    "During handling of the above exception, another exception occurred:",
)
_MARGIN = re.compile(r"^\s*[|+] ?(?!-)")
_FIRST_PART = re.compile(r"^(?P<indent>\s*)\+-\+-+ \d+ -+\s*$")
_NEXT_PART = re.compile(r"^\s*\+-+ (?:\d+|\.\.\.) -+\s*$")
_DEEPEST_GROUP = 10

# Python 3.12 runs comprehensions in the frame of their function.
_INLINED = frozenset({"<listcomp>", "<dictcomp>", "<setcomp>"})
_THIRD_PARTY = re.compile(
    r"[\\/](?:(?:site|dist)-packages|installed_wheels[\\/][^\\/]+[\\/][^\\/]+)[\\/]"
    r"(?:[^\\/]+\.egg[\\/])?(?P<inside>.+)$"
)
_STANDARD = re.compile(
    r"[\\/](?:lib(?:64)?[\\/]python\d[\d.]*t?|Lib|var[\\/]runtime)[\\/](?P<inside>.+)$"
)
_SEPARATOR = re.compile(r"[\\/]+")
_EXTENSION = re.compile(r"\.(?:py[cwxi]?|so)$")
_IDENTIFIER = re.compile(r"[^\W\d]\w*")
_RELEASE = re.compile(r"\d{3}|_v?\d|^(?=[a-f]*\d)[0-9a-f]{6,}$")
# Folders that code is put into, and that are no part of a module's name.
_FOLDERS = word_set(
    "app apps application src source code lib python project workspace current release "
    "releases deploy deployed deployment build dist opt srv home usr local root tmp temp var "
    "task www bin Users service server backend"
)


@dataclass(slots=True)
class _Reader:
    """One pass over the lines of one margin; blocks come root cause first."""

    blocks: list[Raised] = field(default_factory=list)
    frames: list[Frame] | None = None
    indent: str = ""
    expects_type: bool = False

    def line(self, line: str) -> None:
        if _TRACEBACK in line:
            self.finish()
            self.frames = []
            self.indent = line[: len(line) - len(line.lstrip())]
            return
        frame = _FRAME.match(line)
        if frame is not None:
            if self.frames is None:
                self.frames = []
            self._add(frame["path"], frame["function"] or "")
            return
        text = line.removeprefix(self.indent)
        if self.frames is not None:
            if text and not text[0].isspace():
                self._close(text)
        elif text.strip() in _CHAINED:
            self.expects_type = True
        elif self.expects_type and text.strip():
            self._close(text)

    def finish(self) -> None:
        """End a block whose exception line is missing."""
        if self.frames:
            self.blocks.append(Raised("", self.frames[::-1]))
        self.frames = None

    def _add(self, path: str, function: str) -> None:
        if self.frames is not None and function not in _INLINED:
            module, in_app = _module(path)
            self.frames.append(Frame(module, function, in_app))

    def _close(self, text: str) -> None:
        match = _TYPE.match(text)
        if match is None and self.frames is None:
            return
        self.blocks.append(
            Raised(match["type"] if match is not None else "", (self.frames or [])[::-1])
        )
        self.frames = None
        self.expects_type = False


def parse(text: str) -> Raised | None:
    """The exception of a Python traceback in a text, or None."""
    if 'File "' not in text:
        return None
    raised = _parse(text.splitlines(), depth=0, bare=False)
    return raised if raised is not None and has_frames(raised) else None


def _parse(lines: list[str], depth: int, *, bare: bool) -> Raised | None:
    # `bare`: the lines of a group's member, which may be an exception without a traceback.
    reader = _Reader(expects_type=bare)
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        opening = _FIRST_PART.match(line)
        if opening is None:
            reader.line(_MARGIN.sub("", line))
            continue
        column = len(opening["indent"]) + 2
        end = number
        while end < len(lines) and _column(lines[end]) >= column:
            end += 1
        if depth < _DEEPEST_GROUP and reader.blocks:
            members = _members(lines[number:end], column)
            parts = [_parse(member, depth + 1, bare=True) for member in members]
            reader.blocks[-1].parts.extend(part for part in parts if part is not None)
        number = end
    reader.finish()
    for cause, block in zip(reader.blocks, reader.blocks[1:], strict=False):
        block.cause = cause
    return reader.blocks[-1] if reader.blocks else None


def _column(line: str) -> int:
    stripped = line.lstrip()
    return len(line) - len(stripped) if stripped[:1] in ("|", "+") else -1


def _members(lines: list[str], column: int) -> list[list[str]]:
    members: list[list[str]] = [[]]
    for line in lines:
        if _column(line) == column and _NEXT_PART.match(line):
            members.append([])
        else:
            members[-1].append(line)
    return members


def _module(path: str) -> tuple[str, bool]:
    """The module that a file is, and whether it is the application's."""
    if path.startswith("<"):
        return re.split(r"[ \d-]*\d", path.strip("<>"))[0], False
    library = _THIRD_PARTY.search(path) or _STANDARD.search(path)
    if library is not None:
        return _dotted(_SEPARATOR.split(library["inside"])), False
    # One folder tells most modules apart; more would let the path of a release count.
    parts = _SEPARATOR.split(path)[-3:]
    return _dotted(parts[-2:] if _is_package(parts) else parts[-1:]), True


def _is_package(parts: list[str]) -> bool:
    if len(parts) < 2:
        return False
    name = parts[-2]
    return (
        _IDENTIFIER.fullmatch(name) is not None
        and name not in _FOLDERS
        and _RELEASE.search(name) is None
        and parts[0] not in ("home", "Users")
    )


def _dotted(parts: list[str]) -> str:
    *folders, file = parts
    file = _EXTENSION.sub("", file.partition(".cpython-")[0])
    if file == "__init__" and folders:
        return ".".join(folders)
    return ".".join([*folders, file])
