"""The log header that some loggers leave inside the message: it says when and where, not what."""

from __future__ import annotations

import re

_DAY = r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_CLOCK = r"0+:0+(?::0+(?:[.,]0+)?)?(?: ?[AP]M)?"
_ZONE = r"(?: ?(?:Z|UTC|GMT|CES?T|[ECMP][SD]T|[+-]0+(?::0+)?))?"
_DATE = (
    rf"(?:0+-0+-0+|0+/0+/0+|0+\.0+\.0+(?= )|0+[-/ ]{_MONTH}[-/ ]0+"
    rf"|(?:{_DAY},? )?{_MONTH} +0+(?:,? 0+(?![:0]))?)"
)
_STAMP = (
    rf"(?:{_DATE}(?:[T :]{_CLOCK}{_ZONE}(?: 0+(?!\S))?|(?=[\s\])|]))"
    rf"|0+:0+:0+(?:[.,]0+)?(?: ?[AP]M)?{_ZONE})"
)
_LEVEL = (
    r"(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|SEVERE|FATAL|CRITICAL|ALERT|EMERGENCY|PANIC)"
)
_BRACKETED_LEVEL = (
    r"(?i:trace|debug|info|notice|warn|warning|error|severe|fatal|critical|crit|alert|emerg|panic"
    r"|trc|dbg|inf|wrn|err|ftl|\w+:(?:notice|warn|error|info|debug|crit))"
)
_SEPARATOR = r"(?:[\s|,;-]+|: ?)*"

_GLOG = re.compile(rf"[IWEF]0000 {_CLOCK} +0+ [\w.-]+:0+\] ")
_FIRST = re.compile(
    rf"(?:<0+>0* ?)?(?:"
    rf"\[{_STAMP}\]|\({_STAMP}\)|{_STAMP}(?=[\s|:,;\]-]|$)"
    rf"|\[{_BRACKETED_LEVEL}\]|{_LEVEL}(?=[:|\s]|$)"
    rf"){_SEPARATOR}"
)
_THREAD = (
    r"[\[(] *(?:main|[\w.@/# -]*"
    r"(?i:thread|exec|pool|worker|nio|epoll|task|sched|loop|http|grpc|kafka)"
    r"[\w.@/# -]*|(?:pid|tid|client)?[ :=]*0[0a-fA-F.:-]*)[\])]"
)
_NEXT = re.compile(
    rf"(?:\[{_STAMP}\]|{_STAMP}(?=[\s|:,;\]-]|$)|\[{_BRACKETED_LEVEL}\]|{_LEVEL}(?=[\s:|\]]|$)"
    rf"|{_THREAD}|0+ ---|0+(?= +{_LEVEL}\b)|---){_SEPARATOR}"
)
_SYSLOG_HOST = re.compile(rf"{_MONTH} .*?(?P<host>\S+ )(?=[\w./-]+(?:\[0+\])?: )")
_MOST_PARTS = 8
# What a stamp, a level, a day or a month can start with.
_STARTS = frozenset("0[(<ACDEFIJMNOPSTW")


def strip_header(text: str) -> str:
    """A folded message without the time, level and thread that stand at its beginning.

    What names a component (a logger, a tag that is no thread) stays. A message that is nothing but
    a header is returned as it is.
    """
    text = text.lstrip()
    if text[:1] not in _STARTS:
        return text
    match = _GLOG.match(text) or _FIRST.match(text)
    if match is None or not match[0]:
        return text
    end = match.end()
    if match[0][0].isalpha():
        host = _SYSLOG_HOST.match(text)
        if host is not None and host.start("host") == end:
            end = host.end()
    for _ in range(_MOST_PARTS):
        part = _NEXT.match(text, end)
        if part is None:
            break
        end = part.end()
    return text[end:] or text
