from __future__ import annotations

import gzip
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from backports import zstd

from streamwatch.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable

CAPTURES = Path(__file__).parents[3] / "benchmarks" / "captures"
BAD = CAPTURES / "sqlalchemy-upgrade.jsonl.zst"
HEALTHY = CAPTURES / "healthy.jsonl.zst"


def outputs(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_bad_capture_is_halted_and_the_exit_code_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["replay", str(BAD)]) == 1
    shown = capsys.readouterr()
    assert shown.out.count("HALT") == 1
    assert "sqlalchemy.exc.ArgumentError" in shown.out
    assert "21394 records" in shown.err


def test_healthy_capture_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "--json", str(HEALTHY)]) == 0
    found = outputs(capsys)
    assert not any("signal" in output for output in found)
    verdicts = [output["verdict"] for output in found if "verdict" in output]
    assert verdicts[-1]["status"] == "Successful"
    assert found[-1]["report"]["records"] == 25943


def test_every_run_gives_the_same_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    runs = []
    for _ in range(2):
        main(["replay", "--json", str(BAD)])
        runs.append(capsys.readouterr().out)
    assert runs[0] == runs[1]


def log(path: Path, pack: Callable[[bytes], bytes]) -> Path:
    """A plain log: two minutes of one release, then a second one that fails half of the time."""
    lines = []
    for second in range(240):
        for number in range(20):
            candidate = second >= 120 and number % 4 == 0
            record = {
                "timestamp": 1_760_000_000 + second,
                "service.name": "shop",
                "service.version": "2" if candidate else "1",
                "service.instance.id": "b" if candidate else "a",
                "level": "error" if candidate and number % 8 == 0 else "info",
                "message": f"order {number} failed" if candidate else f"order {number} placed",
                "user.id": f"u-{second}-{number}",
                "http.request.method": "POST",
            }
            lines.append(orjson.dumps(record))
    path.write_bytes(pack(b"\n".join(lines) + b"\n"))
    return path


@pytest.mark.parametrize(
    ("suffix", "pack"), [("", bytes), (".gz", gzip.compress), (".zst", zstd.compress)]
)
def test_plain_logs_are_read_whatever_their_packing(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    suffix: str,
    pack: Callable[[bytes], bytes],
) -> None:
    assert main(["replay", "--json", str(log(tmp_path / f"app.log{suffix}", pack))]) == 1
    (signal,) = [output["signal"] for output in outputs(capsys) if "signal" in output]
    assert (signal["release"], signal["baseline"]) == ("2", "1")


def test_bad_lines_are_reported_with_reason_and_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "app.log"
    path.write_bytes(
        b'garbage\n{"message": "x"}\n\xff\xfe\n{"timestamp": 1760000000, "service": 7}\n'
    )
    assert main(["replay", "--json", str(path)]) == 0
    report = outputs(capsys)[-1]["report"]
    assert report["messages"] == 4
    assert sum(report["rejected"].values()) == 4
    assert [detail[2:] for detail in report["details"]] == [["app.log", 0, n] for n in range(4)]


def test_unrelated_captures_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(HEALTHY), str(HEALTHY)]) == 2
    assert "one by one" in capsys.readouterr().err


@pytest.mark.parametrize("keep", [30, 300_000])
def test_cut_file_is_told_from_a_whole_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], keep: int
) -> None:
    path = tmp_path / "cut.jsonl.zst"
    path.write_bytes(HEALTHY.read_bytes()[:keep])
    assert main(["replay", str(path)]) == 2
    assert "cannot read" in capsys.readouterr().err


def test_missing_file_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "/nowhere/app.log"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
