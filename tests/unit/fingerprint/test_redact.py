from __future__ import annotations

import time

import pytest

from streamwatch.fingerprint import redact

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0TH"
KEY_BLOCK = "-----BEGIN {0}PRIVATE KEY-----\nMIIEow\nIBAAKC\n-----END {0}PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("password=hunter2 refused", "hunter2"),
        ("dbPassword: hunter2", "hunter2"),
        ('{"user": "x", "password": "hun ter2"}', "ter2"),
        (r"{\"password\":\"hunter2\"}", "hunter2"),
        ("run --db-password hunter2 --now", "hunter2"),
        ("password 'hunter2' is wrong", "hunter2"),
        ("the password is hunter2", "hunter2"),
        ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG", "wJalr"),
        ("X-Api-Key: abc123", "abc123"),
        ("GET /x?api_key=abc123&page=2", "abc123"),
        ("access_token=abc123;", "abc123"),
        ("AccountKey=abc123==;EndpointSuffix=core", "abc123"),
        ("sessionid=abc123", "abc123"),
        ("PIN: 1234", "1234"),
        ("connect postgres://bob:s3cr@t@db/x", "s3cr"),
        ("connect redis://:s3cret@cache:6379/0", "s3cret"),
        ("clone https://ghtoken@git.example/x", "ghtoken"),
        ("Authorization: Bearer abc.def-123", "abc.def"),
        ("Authorization: Basic Zm9vOmJhcg==", "Zm9v"),
        ('authorization: Digest username="bob", response="abc123"', "abc123"),
        ("proxy said Bearer abcdefgh12345678", "abcdefgh"),
        ("Cookie: a=1; session=abc123", "abc123"),
        ("Set-Cookie: sid=abc123; Path=/; HttpOnly", "abc123"),
        (f"bad token {JWT} given", "eyJzdWI"),
        ("key AKIAIOSFODNN7EXAMPLE is old", "AKIA"),
        ("key AIzaSyA1234567890abcdefghijklmnopqrstuv is old", "AIza"),
        ("push with ghp_16C7e42F292c6912E7710c838347Ae178B4a", "ghp_"),
        ("slack " + "xoxb" + "-17653672481-19874698323-pdFZKVeTuE8sk7oOHcbrzqgy", "pdFZ"),
        ("stripe " + "sk_" + "live_4eC39HqLyjWDarjtT1zdp7dc", "4eC39"),
        ("mail jo.doe+x@example.co.uk bounced", "jo.doe"),
        ("card 4111 1111 1111 1111 declined", "1111"),
        ("card 378282246310005 declined", "378282"),
        ("card 5555-5555-5555-4444 declined", "5555"),
        (KEY_BLOCK.format("RSA "), "MIIE"),
        (KEY_BLOCK.format("")[:60], "MIIE"),
        ("blob Zm9vYmFyMTIz/YmF6cXV4NDU2+Q0hBTkdFTUUxMjM0NTY=", "Zm9vYmFy"),
    ],
)
def test_secret_is_gone(text: str, secret: str) -> None:
    assert secret in text
    shown = redact(text)
    assert secret not in shown
    assert any(marker in shown for marker in ("<redacted>", "<email>", "<card>"))


@pytest.mark.parametrize(
    "text",
    [
        "order 4111111111111112 is not a card number",
        "unexpected end of input at line 7",
        "session opened for user root",
        "shipping: fast, author=bob, authority=x, keyboard=1, monkey=3, spin=3",
        "authentication failed for pinned host alpha",
        "at com.example.Shop.sell(Shop.java:1)",
        "/srv/data/Reports2031/quarter/Totals4/summary/all/of/them/in/one.csv is missing",
        "commit 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b is gone",
        "id 550e8400-e29b-41d4-a716-446655440000 is gone",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    assert redact(text) == text


def test_what_is_around_a_secret_stays() -> None:
    assert redact("login of bob with password=hunter2 from alpha refused") == (
        "login of bob with password=<redacted> from alpha refused"
    )


def test_result_is_one_printable_line_within_the_limit() -> None:
    shown = redact("a\tb\r\nc\x1b[31mred\x1b[0m\x00\u202e\u200b end " + "x" * 900, limit=40)
    assert shown.startswith("a b cred end x")
    assert shown.isprintable()
    assert len(shown) == 40
    assert shown.endswith("…")


def test_a_secret_hidden_behind_control_characters_is_found() -> None:
    assert "hunter2" not in redact("pass\x1b[0mword\u200b=hunter2")


@pytest.mark.parametrize("limit", [20, 100, 500])
def test_a_secret_at_any_place_of_a_long_text_is_never_cut_in_two(limit: int) -> None:
    for position in range(0, 8 * max(limit, 100) + 50, 7):
        shown = redact("word " * (position // 5) + "jo.doe@example.org bounced", limit)
        assert "jo.doe" not in shown


@pytest.mark.parametrize(
    "piece",
    [
        "://",
        "password",
        "a",
        "a-",
        "a@",
        "a.a@",
        "1 ",
        "pass=",
        "aB1",
        " --",
        "eyJa.",
        "\x1b]",
        "-----BEGIN PRIVATE KEY-----",
        "cookie:",
        "session_",
        '"',
        "password='",
        "4 ",
        "\\",
    ],
)
def test_hostile_text_costs_little(piece: str) -> None:
    start = time.process_time()
    redact(piece * (2_000_000 // len(piece)))
    assert time.process_time() - start < 1
