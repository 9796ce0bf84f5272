"""Java traces, and those of Kotlin, Scala and Groovy, which print alike."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamwatch.fingerprint.stacktrace.model import Frame, Raised, has_frames
from streamwatch.fingerprint.words import word_list

if TYPE_CHECKING:
    from collections.abc import Callable

_FRAME = re.compile(
    r"^\s*at (?:[\w.$@-]*/{1,2}){0,2}(?P<module>[^\s(]+)\.(?P<function>[^(.]+)"
    r"\((?P<source>Native Method|Unknown Source(?::\d+)?|<[^>]*>|[\w$ -]+(?:\.\w+)?:-?\d+"
    r"|[\w$-]+\.\w+|SourceFile|:\d+)\)"
)
_FRAMES_FOLLOW = re.compile(r"^[ \t]*at [^\s(]+\.[^\s(]+\(", re.MULTILINE)
_NAME = r"[^\W\d][\w$]*"
_NEXT = re.compile(
    r"^(?P<indent>\s*)(?P<relation>Caused by|Suppressed|Wrapped by): (?:\[CIRCULAR REFERENCE: ?)?"
    rf"(?P<type>(?:{_NAME}\.)*{_NAME})"
)
# How an exception line may start, or stand behind a log header; the most telling first.
_HEADERS = (
    re.compile(
        rf'^\s*(?:Exception in thread "[^"]*" )?(?P<type>(?:{_NAME}\.)+[A-Z][\w$]*)(?=:|\s*$)'
    ),
    re.compile(
        rf"(?<![\w.$])(?P<type>(?:{_NAME}\.)+[A-Z][\w$]*(?:Exception|Error|Throwable|Failure))(?=:|\s|$)"
    ),
    re.compile(r"^\s*(?P<type>[A-Z][\w$]*(?:Exception|Error|Throwable|Failure))(?=:|\s*$)"),
)
# Reactor prints an assembly trace as a suppressed exception, and the real frames inside it.
_REACTOR_ASSEMBLY = "OnAssemblyException"
_REACTOR_ORIGINAL = "Original Stack Trace:"
# Put beside every exception that leaves a coroutine.
_DIAGNOSTIC_TYPES = (_REACTOR_ASSEMBLY, "DiagnosticCoroutineContextException")

# Frames that the runtime makes up: proxies, accessors, lambdas, reflection. They come and go with
# warm-up and with the version of what generates them.
_GENERATED = re.compile(
    r"\$\$(?:Lambda|Enhancer|FastClass|SpringCGLIB|_Weld|_jvst|_javassist)|\$Proxy\d*|_\$\$_"
    r"|\$(?:MockitoMock|HibernateProxy|ByteBuddy|HibernateInstantiator)\$|_(?:Subclass|ClientProxy)$"
    r"|^(?:sun|jdk\.internal)\.reflect\.|^java\.lang\.(?:reflect|invoke)\."
)
_GENERATED_FUNCTION = re.compile(r"^access\$(?:\d+)?$|^\$deserializeLambda\$$|CGLIB\$")
_NUMBERED = re.compile(r"(?:[$-]\d+)+(?=\$|$)")
_HIDDEN_CLASS = re.compile(r"/0x[0-9a-f]+|/\d+$")

_LIBRARIES = tuple(
    f"{package}."
    for package in word_list(
        "java javax jakarta jdk sun com.sun kotlin kotlinx scala groovy clojure android androidx "
        "akka brave ch.qos com.amazonaws com.codahale com.datastax com.fasterxml "
        "com.github.benmanes com.google.api com.google.cloud com.google.common com.google.gson "
        "com.google.inject com.google.protobuf com.ibm com.intellij com.microsoft com.mongodb "
        "com.mysql com.netflix com.newrelic com.oracle com.rabbitmq com.squareup com.typesafe "
        "com.zaxxer cats dagger datadog feign graphql io.confluent io.github.resilience4j io.grpc "
        "io.ktor io.lettuce io.micrometer io.micronaut io.netty io.opentelemetry io.prometheus "
        "io.quarkus io.reactivex io.smallrye io.undertow io.vertx jersey junit mu net.bytebuddy "
        "net.sf okhttp3 okio oracle org.aopalliance org.apache org.aspectj org.codehaus "
        "org.eclipse org.elasticsearch org.glassfish org.gradle org.h2 org.hibernate org.hsqldb "
        "org.http4s org.infinispan org.jboss org.jetbrains org.jooq org.junit org.mariadb "
        "org.mockito org.mongodb org.mybatis org.neo4j org.postgresql org.quartz "
        "org.reactivestreams org.scalatest org.slf4j org.spockframework org.springframework "
        "org.sqlite org.testng org.thymeleaf org.wildfly org.yaml play reactor redis.clients "
        "retrofit2 rx slick software.amazon weblogic zio"
    )
)


_MOST_BLOCKS = 50


@dataclass(slots=True)
class _Block:
    """An exception as printed, and the one whose trace it is printed below."""

    raised: Raised
    indent: int
    enclosing: _Block | None = None


def parse(text: str) -> Raised | None:
    """The exception of a Java trace in a text, or None."""
    if _FRAMES_FOLLOW.search(text) is None:
        return None
    lines = text.splitlines()
    first = next((number for number, line in enumerate(lines) if _FRAME.match(line)), None)
    if first is None:
        return None
    reader = _Reader(_Block(Raised(_header(lines[:first])), 0))
    for line in lines[first:]:
        reader.line(line)
    raised = reader.outcome()
    return raised if has_frames(raised) else None


class _Reader:
    """One pass over the lines that follow the header of the first exception."""

    def __init__(self, first: _Block) -> None:
        self._blocks = [first]
        self._outermost = first
        self._current = first

    def line(self, line: str) -> None:
        frame = _FRAME.match(line)
        if frame is not None:
            self._current.raised.frames.append(_frame(frame["module"], frame["function"]))
            return
        following = _NEXT.match(line)
        if following is not None and len(self._blocks) < _MOST_BLOCKS:
            self._open(following["relation"], len(following["indent"]), _type(following["type"]))
        elif line.strip() == _REACTOR_ORIGINAL and self._current.enclosing is not None:
            self._current = self._current.enclosing

    def outcome(self) -> Raised:
        """The outermost exception, each cause with the frames that are its own."""
        for block in self._blocks:
            raised = block.raised
            raised.frames = [frame for frame in raised.frames if not _is_generated(frame)]
            raised.parts = [
                part for part in raised.parts if not part.type.endswith(_DIAGNOSTIC_TYPES)
            ]
        own = [_own(block) for block in self._blocks]
        for block, frames in zip(self._blocks, own, strict=True):
            block.raised.frames = frames
        return self._outermost.raised

    def _open(self, relation: str, indent: int, type_: str) -> None:
        block = _Block(Raised(type_), indent)
        if relation == "Wrapped by":
            block.raised.cause = self._outermost.raised
            self._outermost.enclosing = block
            self._outermost = block
        elif relation == "Caused by":
            block.enclosing = self._last(lambda other: other.indent == indent)
            block.enclosing.raised.cause = block.raised
        else:
            block.enclosing = self._last(lambda other: other.indent < indent)
            block.enclosing.raised.parts.append(block.raised)
        self._blocks.append(block)
        self._current = block

    def _last(self, fits: Callable[[_Block], bool]) -> _Block:
        return next((block for block in reversed(self._blocks) if fits(block)), self._blocks[-1])


def _own(block: _Block) -> list[Frame]:
    """The frames of a cause without those at its outer end that the enclosing traces have too.

    How many of them are printed, and how many `... N more` stands for, depends on the runtime and
    on the depth of the stack, so the count is not read.
    """
    enclosing: set[Frame] = set()
    outer = block.enclosing
    while outer is not None:
        enclosing.update(outer.raised.frames)
        outer = outer.enclosing
    own = []
    # Library frames beside in-app ones must not matter, so the two end separately.
    shared = {True: True, False: True}
    for frame in reversed(block.raised.frames):
        shared[frame.in_app] = shared[frame.in_app] and frame in enclosing
        if not shared[frame.in_app]:
            own.append(frame)
    return own[::-1]


def _header(lines: list[str]) -> str:
    for pattern in _HEADERS:
        for line in lines:
            match = pattern.search(line)
            if match is not None:
                return _type(match["type"])
    return ""


def _type(name: str) -> str:
    return _NUMBERED.sub("$", name)


def _frame(module: str, function: str) -> Frame:
    module = _HIDDEN_CLASS.sub("", module)
    return Frame(
        _NUMBERED.sub("$", module) if not _GENERATED.search(module) else module,
        _NUMBERED.sub("", function),
        not module.startswith(_LIBRARIES),
    )


def _is_generated(frame: Frame) -> bool:
    return (
        _GENERATED.search(frame.module) is not None
        or _GENERATED_FUNCTION.search(frame.function) is not None
    )
