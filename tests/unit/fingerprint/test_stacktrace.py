from __future__ import annotations

import asyncio
import json
import traceback
from typing import TYPE_CHECKING

import pytest

from streamwatch.fingerprint import Shaper
from streamwatch.records import LogRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from streamwatch.counts import ShapeDefinition

    Job = Callable[[], Coroutine[None, None, None]]


def shape(stacktrace: str, exception_type: str = "") -> ShapeDefinition:
    return Shaper().shape(LogRecord(stacktrace=stacktrace, exception_type=exception_type))


JAVA = """\
java.lang.IllegalStateException: order 17 is broken
\tat com.example.shop.OrderService.place(OrderService.java:42)
\tat com.example.shop.OrderController.lambda$create$3(OrderController.java:12)
\tat java.base/java.util.concurrent.FutureTask.run(FutureTask.java:264)
\tat java.base/java.lang.Thread.run(Thread.java:833)
Caused by: java.sql.SQLException: duplicate key 99
\tat org.postgresql.jdbc.PgStatement.execute(PgStatement.java:401)
\tat com.example.shop.OrderDao.insert(OrderDao.java:77)
\tat com.example.shop.OrderService.place(OrderService.java:40)
\t... 3 more
"""

PYTHON = """\
Traceback (most recent call last):
  File "/srv/releases/41/shop/orders.py", line 41, in place
    reserve(item)
  File "/usr/lib/python3.11/functools.py", line 909, in wrapper
    return dispatch(args)
  File "/srv/releases/41/shop/stock.py", line 12, in reserve
    raise OutOfStock(item)
shop.errors.OutOfStock: chair 7
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("OrderService.java:42", "OrderService.java:57"),
        ("order 17 is broken", "order 18: a cart\nof two lines"),
        ("lambda$create$3", "lambda$create$4"),
        ("java.base/java.lang.Thread", "java.base@21.0.1/java.lang.Thread"),
        (
            "\tat com.example.shop.OrderService.place(",
            "\tat app//com.example.shop.OrderService.place(",
        ),
        ("(OrderService.java:42)", "(OrderService.java:42) ~[shop-1.3.0.jar!/:1.3.0]"),
        (
            "\tat com.example.shop.OrderController.lambda$create$3(OrderController.java:12)\n",
            "\tat com.example.shop.OrderController.lambda$create$3(OrderController.java:12)\n"
            "\tat com.example.shop.OrderService$$SpringCGLIB$$0.place(<generated>)\n"
            "\tat jdk.internal.reflect.GeneratedMethodAccessor81.invoke(Unknown Source)\n"
            "\tat org.springframework.aop.Proxy.proceed(Proxy.java:4)\n",
        ),
        ("\t... 3 more", "\t... 31 more"),
        ("\t... 3 more", "\t... 3 common frames omitted"),
        (
            "\t... 3 more",
            "\tat com.example.shop.OrderController.lambda$create$3(OrderController.java:12)\n"
            "\tat java.base/java.util.concurrent.FutureTask.run(FutureTask.java:264)\n"
            "\tat java.base/java.lang.Thread.run(Thread.java:833)",
        ),
        (
            "java.lang.IllegalStateException",
            'Exception in thread "main" java.lang.IllegalStateException',
        ),
        (
            "java.lang.IllegalStateException",
            "2031-05-06 07:08:09 ERROR [main] c.e.Shop - failed: java.lang.IllegalStateException",
        ),
        (
            "\tat com.example.shop.OrderService.place(OrderService.java:42)\n",
            "\tat com.example.shop.OrderService.place(OrderService.java:42)\n" * 40,
        ),
    ],
)
def test_java_trace_is_the_same(old: str, new: str) -> None:
    assert old in JAVA
    assert shape(JAVA.replace(old, new)) == shape(JAVA)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("IllegalStateException", "IllegalArgumentException"),
        ("java.sql.SQLException", "java.io.IOException"),
        ("OrderDao.insert(OrderDao", "OrderDao.update(OrderDao"),
        ("OrderDao.insert(OrderDao", "V2OrderDao.insert(OrderDao"),
        ("\tat com.example.shop.OrderService.place(OrderService.java:42)\n", ""),
        (
            "\tat com.example.shop.OrderService.place(OrderService.java:42)\n",
            "\tat com.example.shop.Price.of(Price.java:1)\n"
            "\tat com.example.shop.OrderService.place(OrderService.java:42)\n",
        ),
    ],
)
def test_java_trace_is_another(old: str, new: str) -> None:
    assert old in JAVA
    assert shape(JAVA.replace(old, new)).id != shape(JAVA).id


def test_java_suppressed_exceptions_count_and_their_number_does_not() -> None:
    suppressed = "\tSuppressed: java.io.IOException: x\n\t\tat com.example.shop.R.close(R.java:1)\n"
    once = JAVA.replace("Caused by", f"{suppressed}Caused by")
    thrice = JAVA.replace("Caused by", f"{suppressed * 3}Caused by")
    assert shape(once) == shape(thrice)
    assert shape(once).id != shape(JAVA).id
    assert "caused by java.sql.SQLException" in shape(once).template


def test_java_root_cause_first_reads_like_the_usual_order() -> None:
    wrapped = """\
java.sql.SQLException: duplicate key 99
\tat com.example.shop.OrderDao.insert(OrderDao.java:77)
\t... 1 common frames omitted
Wrapped by: java.lang.IllegalStateException: order 17 is broken
\tat com.example.shop.OrderService.place(OrderService.java:42)
"""
    assert shape(wrapped).template == (
        "java.lang.IllegalStateException at com.example.shop.OrderService.place"
        " caused by java.sql.SQLException at com.example.shop.OrderDao.insert"
    )


def test_java_mutual_recursion_has_one_shape_wherever_the_stack_ended() -> None:
    cycle = ["\tat com.example.A.f(A.java:1)", "\tat com.example.B.g(B.java:2)"]
    head = "java.lang.StackOverflowError\n"
    assert shape(head + "\n".join(cycle * 512)) == shape(head + "\n".join((cycle * 511)[1:]))


def test_deep_recursion_collapses_but_its_throw_site_counts() -> None:
    head, walk = "java.lang.RuntimeException: x\n", "\tat com.example.Tree.walk(Tree.java:1)\n"
    leaf = "\tat com.example.Leaf.read(Leaf.java:1)\n"
    assert shape(head + leaf + walk * 5) == shape(head + leaf + walk * 50)
    assert shape(head + walk * 5).id != shape(head + leaf + walk * 5).id


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("line 41", "line 1041"),
        ("/srv/releases/41/shop/", "/srv/releases/20310506/shop/"),
        ("/srv/releases/41/shop/", "/opt/venvs/shop-1.2.3/shop/"),
        ("/srv/releases/41/shop/", "C:\\inetpub\\shop\\"),
        ("chair 7", "table 9\nwith a second line"),
        ("/usr/lib/python3.11/functools.py", "/usr/local/lib/python3.13/functools.py"),
        ("    reserve(item)\n", "    reserve(item)\n    ~~~~~~~^^^^^^\n"),
        ("    reserve(item)\n", ""),
        (
            '  File "/usr/lib/python3.11/functools.py"',
            '  File "/v/lib/python3.11/site-packages/tenacity/__init__.py", line 3, in call\n'
            "    return fn()\n"
            '  File "/usr/lib/python3.11/functools.py"',
        ),
        ("Traceback", "2031-05-06 07:08:09 ERROR shop order failed\nTraceback"),
        ("Traceback", "ERROR:shop:order failed Traceback"),
    ],
)
def test_python_trace_is_the_same(old: str, new: str) -> None:
    assert old in PYTHON
    assert shape(PYTHON.replace(old, new)) == shape(PYTHON)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("shop.errors.OutOfStock", "shop.errors.NoSuchItem"),
        ("in reserve", "in release"),
        ("shop/stock.py", "shop/depot.py"),
        ("shop/stock.py", "mall/stock.py"),
        ("in reserve", "in reserve_v2"),
    ],
)
def test_python_trace_is_another(old: str, new: str) -> None:
    assert old in PYTHON
    assert shape(PYTHON.replace(old, new)).id != shape(PYTHON).id


@pytest.mark.parametrize("trace", [JAVA, PYTHON], ids=["java", "python"])
def test_raw_escaped_and_structured_traces_are_one_shape(trace: str) -> None:
    shaper = Shaper()
    structured = shape(trace)
    assert structured.kind == "exception"
    escaped = trace.replace("\n", "\\n").replace("\t", "\\t")
    for message in (trace, escaped, json.dumps({"m": trace}), json.dumps(json.dumps({"m": trace}))):
        assert shaper.shape_text(message) == structured
    assert shape(trace.replace("\n", "\r\n")) == structured


def test_real_python_chain_and_context() -> None:
    def fail(value: str) -> None:
        try:
            int(value)
        except ValueError as error:
            raise LookupError(value) from error

    def handle(value: str) -> None:
        try:
            fail(value)
        except LookupError:
            raise RuntimeError(value)  # noqa: B904 - the implicit context is what is tested

    traces = []
    for value in ("x", "long value"):
        try:
            handle(value)
        except RuntimeError:
            traces.append(traceback.format_exc())
    assert traces[0] != traces[1]
    first, second = map(shape, traces)
    assert first == second
    types = [part.partition(" at ")[0] for part in first.template.split(" caused by ")]
    assert types == ["RuntimeError", "LookupError", "ValueError"]
    assert first.frame.endswith(".handle")


def test_real_exception_group_has_one_shape_for_any_order_and_number() -> None:
    async def pull() -> None:
        raise TimeoutError

    async def push() -> None:
        raise ValueError

    async def both(*jobs: Job) -> None:
        async with asyncio.TaskGroup() as group:
            for job in jobs:
                group.create_task(job())

    def trace_of(*jobs: Job) -> str:
        try:
            asyncio.run(both(*jobs))
        except ExceptionGroup:
            return traceback.format_exc()
        raise AssertionError("no job failed")

    one = shape(trace_of(pull, push))
    assert one == shape(trace_of(push, pull, push))
    assert one != shape(trace_of(pull))
    assert "{TimeoutError at " in one.template
    assert "; ValueError at " in one.template


def test_real_recursion_error_has_one_shape_for_any_entry_depth() -> None:
    def even(number: int) -> int:
        return odd(number + 1)

    def odd(number: int) -> int:
        return even(number + 1)

    def trace_of(start: Callable[[int], int]) -> str:
        try:
            start(0)
        except RecursionError:
            return traceback.format_exc()
        raise AssertionError("the recursion ended")

    assert shape(trace_of(even)) == shape(trace_of(odd))


def test_comprehension_frames_of_older_pythons_do_not_count() -> None:
    inlined = '  File "/srv/releases/41/shop/orders.py", line 40, in <listcomp>\n    x\n'
    assert shape(PYTHON.replace('  File "/usr', f'{inlined}  File "/usr')) == shape(PYTHON)


def test_trace_without_application_frames_uses_all() -> None:
    library = "java.io.IOException: x\n\tat java.base/java.net.Socket.{}(Socket.java:1)\n"
    assert shape(library.format("read")).id != shape(library.format("connect")).id


def test_type_of_the_record_stands_in_for_a_missing_one() -> None:
    frames = "\tat com.example.Shop.sell(Shop.java:1)\n"
    assert shape(frames, exception_type="com.example.E").template == (
        "com.example.E at com.example.Shop.sell"
    )


def test_exception_without_frames_is_its_type_and_masked_message() -> None:
    shaper = Shaper()
    one = shaper.shape(LogRecord(exception_type="E", exception_message="order 1 failed"))
    assert one == shaper.shape(LogRecord(exception_type="E", exception_message="order 2 failed"))
    assert (one.kind, one.template, one.type) == ("exception", "E: order <*> failed", "E")
    for other in (
        LogRecord(exception_type="F", exception_message="order 1 failed"),
        LogRecord(exception_type="E", exception_message="order 1 is gone"),
    ):
        assert shaper.shape(other).id != one.id


def test_message_beside_an_exception_does_not_count() -> None:
    trace = LogRecord(message="a", stacktrace=PYTHON)
    assert Shaper().shape(trace) == Shaper().shape(LogRecord(message="b", stacktrace=PYTHON))


def test_prose_that_looks_like_a_trace_is_text() -> None:
    for prose in (
        "look at this(thing)\nand that",
        'File "x" is\nmissing',
        "Caused by: rain\nagain",
    ):
        assert Shaper().shape_text(prose).kind == "text"
