from __future__ import annotations

import pytest

from streamwatch.fingerprint import Shaper


def template(message: str) -> str:
    return Shaper().shape_text(message).template


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("took 12ms", "took 1.5 s"),
        ("read 12 bytes", "read 3.4 MB"),
        ("id 550e8400-e29b-41d4-a716-446655440000", "id 17"),
        ("peer 10.0.0.1:80 left", "peer [fe80::1%eth0]:443 left"),
        ("open /a/b.txt: denied", r"open C:\a\b.txt: denied"),
        ("get http://a.example/x?y=1&z=2 failed", "get https://b.example/ failed"),
        ("user 'bob' is locked", 'user "jane doe" is locked'),
        ("shards [1, 2, 3] lost", "shards [] lost"),
        ("blocks blk_1 blk_2 lost", "blocks blk_1 blk_2 blk_3 blk_4 lost"),
        ("node-1 ok node-2 ok node-3 ok done", "node-1 ok node-2 ok done"),
        ("since Jan 2 10:11:12 down", "since 2031-05-06T07:08:09Z down"),
        ("flag is true", "flag is null"),
        ("login user=root host=a", "login user= host=b"),
        ("x = 5 now", "x = high now"),
        ("mail to a.b@example.org lost", "mail to c@example.com lost"),
        ("pod web-7d9f8b6c5d-x2x4z died", "pod api-66c4b9c9bd-8kq2v died"),
        ("version 1.2.3 is old", "version v2.0.0-rc.1 is old"),
        ("lag <1 s", "lag 17 s"),
        ("token: abcdef refused", "token: ghijkl refused"),
    ],
)
def test_values_do_not_count(one: str, other: str) -> None:
    assert template(one) == template(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("state changed to DOWN", "state changed to UP"),
        ("failed to open the file", "failed to close the file"),
        ("sha256 mismatch", "md5 mismatch"),
        ("S3Client is closed", "SqsClient is closed"),
        ("order-7 failed", "order-7 succeeded"),
        ('level=error msg="disk full"', 'level=error msg="disk gone"'),
        ('{"msg": "disk full", "n": 1}', '{"msg": "disk gone", "n": 1}'),
        ("Error reading body", "reading body"),
        ("May not be empty", "Must not be empty"),
        ("com.example.Shop is gone", "com.example.Cart is gone"),
        ('"GET /a HTTP/1.1" failed', '"POST /a HTTP/1.1" failed'),
        ("注文17が見つかりません", "注文17が無効です"),
    ],
)
def test_constant_words_count(one: str, other: str) -> None:
    assert template(one) != template(other)


@pytest.mark.parametrize(
    "header",
    [
        "2031-05-06 07:08:09,123 ",
        "2031-05-06T07:08:09.123456Z ERROR ",
        "[2031-05-06T07:08:09+02:00] [error] ",
        "2031/05/06 07:08:09 [error] ",
        "07:08:09.123 [pool-1-thread-2] WARN  ",
        "2031-05-06 07:08:09.123 ERROR 4711 --- [           main] ",
        "ERROR: ",
        "E0506 07:08:09.123456    4711 shop.go:88] ",
        "\x1b[33mWARN\x1b[0m ",
        "[06/May/2031:07:08:09 +0000] ",
    ],
)
def test_log_header_does_not_count(header: str) -> None:
    assert template(f"{header}Basket 7 is gone") == "Basket <*> is gone"


def test_component_tag_in_a_header_counts() -> None:
    stamp = "2031-05-06 07:08:09 "
    assert template(f"{stamp}[billing] queue is full") != template(f"{stamp}[mail] queue is full")


def test_message_that_is_only_a_header_keeps_something() -> None:
    assert template("2031-05-06 07:08:09") == "<*>"


def test_template_shows_nothing_that_acts_on_a_terminal() -> None:
    shown = template("\x1b]0;owned\x07 \x1b[2Jbad\x00 in\u202eput\x9b31m now")
    assert shown == "bad input now"


def test_only_the_first_part_of_a_huge_message_counts() -> None:
    head = "word " * 2_000
    assert template(f"{head}tail") == template(f"{head}other tail")
    assert len(template(head)) == 1_000
