from __future__ import annotations

import gzip
import io
import json
from typing import TYPE_CHECKING, Protocol

import pytest
from backports import zstd

from streamwatch import cli

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TRACE = "com.example.E: x\n\tat com.example.A.f(A.java:1)\n"


class Run(Protocol):
    def __call__(
        self, *arguments: str | Path, stdin: bytes = b""
    ) -> tuple[int, list[str], str]: ...


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setattr(cli, "COMMANDS", ("fingerprint",))

    def run(*arguments: str | Path, stdin: bytes = b"") -> tuple[int, list[str], str]:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = cli.main(["fingerprint", *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, out.splitlines(), err

    return run


def test_json_prints_an_object_for_every_line_then_the_aliases(run: Run) -> None:
    names = ["alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan"]
    text = "".join(f"account of customer {name} was locked\n" for name in names)
    code, out, err = run("--json", "-", stdin=f"\n{text}order 1\r\norder 2".encode())
    shown = [json.loads(line) for line in out]
    assert (code, err) == (0, "")
    assert len(shown) == 1 + len(names) + 2 + 1
    assert all(list(line) == ["shape", "group", "template"] for line in shown[:-1])
    assert shown[0]["template"] == ""
    assert shown[-2] == shown[-3]
    assert shown[-2]["template"] == "order <*>"
    locked = shown[1:-3]
    assert locked[-1]["group"] == locked[0]["group"] == locked[0]["shape"] != locked[-1]["shape"]
    assert shown[-1] == {"aliases": {line["shape"]: locked[0]["shape"] for line in locked[1:]}}


def test_text_prints_columns_and_aliases(run: Run) -> None:
    names = ["alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi"]
    text = "".join(f"account of customer {name} was locked\n" for name in names)
    code, out, _ = run("-", stdin=text.encode())
    shape, group, template = out[0].split("  ")
    assert (code, template) == (0, "account of customer alice was locked")
    assert shape == group
    shapes = [line.split("  ")[0] for line in out[: len(names)]]
    assert sorted(out[len(names) :]) == sorted(f"alias {old} -> {group}" for old in shapes[1:])


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
@pytest.mark.parametrize("kind", [".json", ".jsonl", ".ndjson"])
def test_json_records_are_recognised_by_name(
    run: Run, tmp_path: Path, kind: str, suffix: str
) -> None:
    records = [
        {"message": "order 1 failed"},
        {"message": "x", "exception": {"type": "E", "stacktrace": TRACE}},
        {"message": "x", "exception.type": "E", "exception.stacktrace": TRACE},
        {"message": "x", "exception_type": "E", "stacktrace": TRACE},
        {"message": TRACE, "level": "info"},
        {"exception_type": "E", "exception_message": "order 2 failed"},
    ]
    value = "".join(json.dumps(record) + "\n" for record in records).encode()
    packers: dict[str, Callable[[bytes], bytes]] = {
        "": bytes,
        ".gz": gzip.compress,
        ".zst": zstd.compress,
    }
    path = tmp_path / f"log{kind}{suffix}"
    path.write_bytes(packers[suffix](value))
    code, out, _ = run("--json", path)
    templates = [json.loads(line)["template"] for line in out[:-1]]
    trace = "com.example.E at com.example.A.f"
    assert code == 0
    assert templates == ["order <*> failed", trace, trace, trace, trace, "E: order <*> failed"]


def test_format_overrides_the_name(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.write_bytes(b"order 1 failed\n")
    assert run("--format", "text", path)[1][0].endswith("  order <*> failed")
    path = tmp_path / "log"
    path.write_bytes(b'{"message": "order 1 failed"}\n')
    assert run("--format", "json", path)[1][0].endswith("  order <*> failed")


def test_lines_that_are_no_records_keep_their_place(run: Run) -> None:
    stdin = b'{"message": "a"}\nnot json \x1b[31m\n[]\n{"message": "b"}\n'
    code, out, err = run("--json", "--format", "json", "-", stdin=stdin)
    shown = [json.loads(line) for line in out]
    assert code == 0
    assert [line["template"] for line in shown[:-1]] == ["a", None, None, "b"]
    assert shown[1] == {"shape": None, "group": None, "template": None}
    assert [line.partition(":")[0] for line in err.splitlines()] == [
        "line 2",
        "line 3",
        "2 lines are not records",
    ]
    assert "\x1b" not in err
    text = run("--format", "json", "-", stdin=stdin)[1]
    assert text[1] == f"{'-' * 16}  {'-' * 16}"


def test_services_are_grouped_apart(run: Run) -> None:
    names = ["alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi"]
    lines = [
        {"service": service, "message": f"account of customer {name} was locked"}
        for service, those in (("a", names[:4]), ("b", names[4:]))
        for name in those
    ]
    stdin = "".join(json.dumps(line) + "\n" for line in lines).encode()
    assert json.loads(run("--json", "--format", "json", "-", stdin=stdin)[1][-1]) == {"aliases": {}}


def test_bytes_that_are_no_utf8_have_a_shape(run: Run) -> None:
    code, out, _ = run("-", stdin=b"caf\xe9 7 closed\n")
    assert code == 0
    assert out[0].endswith(" closed")


def test_a_file_that_cannot_be_read_is_one_line_and_exit_code_2(run: Run, tmp_path: Path) -> None:
    whole = gzip.compress(b"order 1 failed\n" * 10_000)
    (tmp_path / "cut.gz").write_bytes(whole[:-20])
    for path in (tmp_path / "absent", tmp_path, tmp_path / "cut.gz"):
        code, _, err = run(path)
        assert code == 2
        assert err.startswith("streamwatch: cannot read ")
        assert err.count("\n") == 1
