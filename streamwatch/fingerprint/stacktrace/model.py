"""What every language's trace is parsed into, and its canonical form.

What must not tell two occurrences apart is dropped here or in the language's parser: library frames
beside in-app ones, recursion depth, how often and in which order parallel tasks failed, and how
much of a cause's stack the runtime printed again.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

_MOST_FRAMES = 30
_MOST_BLOCKS = 20
_OVERFLOWS = ("RecursionError", "StackOverflowError")
# A frame this often in an overflow's trace is part of the cycle that never ended.
_CYCLE_REPEATS = 3


@dataclass(frozen=True, slots=True)
class Frame:
    """A function on the stack, without anything that changes with a build or a release."""

    module: str
    function: str
    in_app: bool

    @property
    def name(self) -> str:
        """`module.function`."""
        return ".".join(part for part in (self.module, self.function) if part)


@dataclass(slots=True)
class Raised:
    """An exception of a trace.

    Attributes:
        type: its type as printed, without generated parts; empty when the text did not say.
        frames: its stack, the throw site first.
        cause: what it was raised because of, or while handling.
        parts: the exceptions that it groups or suppressed, in no particular order.
    """

    type: str
    frames: list[Frame] = field(default_factory=list)
    cause: Raised | None = None
    parts: list[Raised] = field(default_factory=list)

    def chain(self) -> list[Raised]:
        """This exception and its causes, outermost first."""
        chain = [self]
        while chain[-1].cause is not None and len(chain) < _MOST_BLOCKS:
            chain.append(chain[-1].cause)
        return chain


def has_frames(raised: Raised) -> bool:
    """Whether any exception of the trace has a stack."""
    return any(
        block.frames or any(has_frames(part) for part in block.parts) for block in raised.chain()
    )


def canonical(raised: Raised, default_type: str = "") -> str:
    """The one line that is equal for equal failures.

    Args:
        raised: the outermost exception.
        default_type: its type when the trace does not name it.

    Returns:
        `Type at innermost < ... < outermost caused by Type at ...`, in-app frames only when there
        are any in the whole trace.
    """
    return _canonical(raised, default_type, in_app_only=_has_in_app(raised))


def top_frame(raised: Raised) -> str:
    """The frame nearest to where the outermost exception was raised, else its causes'.

    It is an in-app frame when the trace has any, and empty when the trace has no frame at all.
    """
    return _top_frame(raised, in_app_only=_has_in_app(raised))


def _has_in_app(raised: Raised) -> bool:
    return any(
        any(frame.in_app for frame in block.frames)
        or any(_has_in_app(part) for part in block.parts)
        for block in raised.chain()
    )


def _top_frame(raised: Raised, *, in_app_only: bool) -> str:
    for block in raised.chain():
        names = _frame_names(block, in_app_only=in_app_only)
        if names:
            return names[0]
    tops = [
        _top_frame(part, in_app_only=in_app_only)
        for block in raised.chain()
        for part in block.parts
    ]
    return min(filter(None, tops), default="")


def _canonical(raised: Raised, default_type: str, *, in_app_only: bool) -> str:
    described = []
    for block in raised.chain():
        text = block.type or default_type or "unknown"
        names = _frame_names(block, in_app_only=in_app_only)
        if names:
            text += f" at {' < '.join(names)}"
        parts = {_canonical(part, "", in_app_only=in_app_only) for part in block.parts}
        if parts:
            text += f" with {{{'; '.join(sorted(parts))}}}"
        if text not in described:
            described.append(text)
        default_type = ""
    return " caused by ".join(described)


def _frame_names(block: Raised, *, in_app_only: bool) -> list[str]:
    names = [frame.name for frame in block.frames if frame.in_app or not in_app_only]
    if block.type.endswith(_OVERFLOWS):
        cycle = {name for name, count in Counter(names).items() if count >= _CYCLE_REPEATS}
        if cycle:
            return sorted(cycle)
    return list(dict.fromkeys(names))[:_MOST_FRAMES]
