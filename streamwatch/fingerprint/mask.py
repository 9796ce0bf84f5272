"""Masking: the variables of a folded message become `<*>`, the constant words stay.

A line is cut at white space and masked token by token through a bounded cache, because most tokens
of most lines have been seen before; a union of patterns over whole lines was measured at a quarter
of the speed that is needed. The few rules that look at neighbours (quotes, lists, units, calendar
words) run only when a cheap test says that they may apply.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from streamwatch.fingerprint.caches import GenerationCache
from streamwatch.fingerprint.controls import strip_escapes, strip_hidden
from streamwatch.fingerprint.header import strip_header
from streamwatch.fingerprint.tokens import PLACEHOLDER, mask_token
from streamwatch.fingerprint.words import word_list

if TYPE_CHECKING:
    from collections.abc import Iterable

_TOKENS_CACHED = 50_000
_TOKEN_CACHE_BYTES = 2_000_000
_LONGEST_CACHED_TOKEN = 200

# Hashes and UUIDs: new in every line, so it pays neither to look them up nor to remember them.
_IDENTIFIER = re.compile(r"(?=[^0]*0)[0a-fA-F]{8,}(?:-[0a-fA-F]{4,})*")
_QUOTED = re.compile(
    r"(?P<before>^|[\s=:,;(\[{<|])"
    r"(?:\"(?P<double>[^\"\n]{0,400})\"|'(?P<single>[^'\n]{0,200})'|`(?P<back>[^`\n]{0,200})`)"
    r"(?=(?P<after>$|[\s=:,;.!?)\]}>|]))"
)
_PROSE_KEY = re.compile(
    r"(?i)(?:^|[\s\"',{(\[])\"?(?:msg|message|error|err|reason|event|detail|description|cause)\"?"
    r"\s?[:=]\s?$"
)
_LONGEST_KEY = 20
_REQUEST_LINE = re.compile(r"[A-Z]{3,10} \S+(?: HTTP/\S+)?")
_LIST = re.compile(r"\[(?:[^\[\]]*,[^\[\]]*| *)\]")
_SPACED_ASSIGNMENT = re.compile(r"(?<=[\w\])] = )[^\s,;(){}\[\]<>]+(?=$|[\s,;)\]}])")
_RUNS = re.compile(r"<\*>(?:[,;:/]? ?<\*>| \((?:<\*>)?\))+")

# Digits of other scripts, which folding bytes leaves alone.
_DIGIT = re.compile(r"\d")

_DAYS = word_list("Mon Tue Wed Thu Fri Sat Sun")
_MONTHS = word_list("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec")
_DAY, _MONTH = rf"(?:{'|'.join(_DAYS)})", rf"(?:{'|'.join(_MONTHS)})"
_DATE = re.compile(
    rf"(?:\b{_DAY},? )?(?:<\*> {_MONTH}\b,?|\b{_MONTH})(?: <\*>,?)+"
    r"(?: (?:UTC|GMT|Z|[A-Z]{2,4}T)\b(?: <\*>)?)?"
)
_UNITS = word_list(
    "ns us µs ms s sec secs second seconds m min mins minute minutes h hr hrs hour hours d "
    "day days B b byte bytes kB KB KiB MB MiB GB GiB TB TiB kb mb gb Hz kHz MHz GHz % bps "
    "kbps Kbps Mbps Gbps AM PM am pm"
)
_UNIT = re.compile(rf"(?<=<\*>) (?:{'|'.join(sorted(_UNITS, key=len, reverse=True))})(?![\w<])")


def _with_punctuation(words: Iterable[str], marks: str) -> frozenset[str]:
    return frozenset(word + mark for word in words for mark in ("", *marks))


_UNIT_WORDS = _with_punctuation(_UNITS, ",;.:)]")
_CALENDAR_WORDS = _with_punctuation([*_DAYS, *_MONTHS], ",")
_SECRETS = word_list("password passwd pwd passphrase passcode secret token api-key api_key apikey")
_SECRET_LABELS = frozenset(
    f"{word}:" for name in _SECRETS for word in (name, name.title(), name.upper())
)
_LABELLED_SECRET = re.compile(rf"(?i)\b({'|'.join(_SECRETS)}): \S+")
#: Words that a rule about neighbours starts from; without any of them none is tried.
_NEIGHBOUR_WORDS = _UNIT_WORDS | _CALENDAR_WORDS | _SECRET_LABELS


class Masker:
    """Masks folded messages; what it remembers saves work and changes no result."""

    def __init__(self) -> None:
        self._tokens: GenerationCache[str, str] = GenerationCache(
            _TOKENS_CACHED, _TOKEN_CACHE_BYTES
        )

    def mask(self, text: str) -> str:
        """The template of a message.

        Args:
            text: a message whose digits are all `0`.

        Returns:
            The constant words, one space between them, with `<*>` for what varies.
        """
        text = strip_header(strip_escapes(text))
        if not text.isascii():
            text = _DIGIT.sub("0", text)
        if '"' in text or "'" in text or "`" in text:
            text = _QUOTED.sub(_mask_quoted, text)
        if "[" in text:
            text = _LIST.sub(f"[{PLACEHOLDER}]", text)
        words = text.split()
        known = self._tokens.young
        masked = " ".join([known.get(word) or self._mask(word) for word in words])
        if not _NEIGHBOUR_WORDS.isdisjoint(words):
            masked = _LABELLED_SECRET.sub(rf"\1: {PLACEHOLDER}", masked)
            masked = _DATE.sub(PLACEHOLDER, _UNIT.sub("", masked))
        if " = " in masked:
            masked = _SPACED_ASSIGNMENT.sub(PLACEHOLDER, masked)
        if PLACEHOLDER in masked:
            masked = _collapse_runs(masked)
        return strip_hidden(masked)

    def _mask(self, token: str) -> str:
        if _IDENTIFIER.fullmatch(token) is not None:
            return PLACEHOLDER
        masked = self._tokens.find(token)
        if masked is None:
            masked = mask_token(token)
            if len(token) <= _LONGEST_CACHED_TOKEN:
                self._tokens.put(token, masked)
        return masked


def _mask_quoted(match: re.Match[str]) -> str:
    inner = match["double"] or match["single"] or match["back"] or ""
    before = match["before"]
    if match["after"] in (":", "="):
        return before + inner
    start, end = match.start(), match.end("before")
    if _PROSE_KEY.search(match.string, max(0, start - _LONGEST_KEY), end) is not None:
        return (": " if before == "=" else before) + inner
    if _REQUEST_LINE.fullmatch(inner) is not None:
        return before + inner
    return before + PLACEHOLDER


def _collapse_runs(masked: str) -> str:
    """One variable for a row of them: how many values a list has is a value too."""
    masked = _RUNS.sub(PLACEHOLDER, masked)
    if masked.count(PLACEHOLDER) < 2:
        return masked
    words = masked.split(" ")
    # Nothing but the bare variable occurs twice, and that never beside itself by now.
    if len(words) - len(set(words)) == words.count(PLACEHOLDER) - (PLACEHOLDER in words):
        return masked
    kept: list[str] = []
    for word, last in zip(words, ["", *words], strict=False):
        if word == last and PLACEHOLDER in word:
            continue
        kept.append(word)
        # A pair that repeats, as in `node-0 ok node-0 ok`.
        if (
            len(kept) > 3
            and kept[-3] == word
            and kept[-4] == kept[-2]
            and (PLACEHOLDER in word or PLACEHOLDER in kept[-2])
        ):
            del kept[-2:]
    return " ".join(kept)
