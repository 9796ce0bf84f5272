"""What one token of a folded message becomes.

A token is what stands between white space. Its digits are all `0` (see `fold`), so every rule here
reads the form of a token and never a number's value. What a rule takes for a variable becomes
`<*>`, whatever its kind: a slot that holds a number in one line and a hash in the next is one slot.
"""

from __future__ import annotations

import re

from streamwatch.fingerprint.words import word_set

PLACEHOLDER = "<*>"

_URL = re.compile(r"[A-Za-z][A-Za-z0+.-]*://[^\s\"'<>`|\\^{}]*[^\s\"'<>`|\\^{}.,;:!?)\]]")
# A path may carry a query, whose `=` and `&` are no assignments of the message.
_ROOTED_PATH = re.compile(r"(?<![\w<*>.])/[\w.~%+@$-][^\s\"'<>`|,;()\[\]{}]*(?<![.:!?])")
_COMPARED = re.compile(r"[<>]=?(?=[-+]?0)")
_BRACKETED_ADDRESS = re.compile(r"\[[0A-Fa-f]*:[0A-Fa-f:.]*(?:%\w+)?\]:0+")
_ASSIGNMENT = re.compile(
    r"(?P<key>[A-Za-z_@][\w.@\-/]*(?:\[\w*\])?)(?P<sign>:?=)"
    r"(?P<value>(?!=|>|~)[^,;&|(){}\[\]<>]*|<\*>)"
    r"(?:\{[^{}\s]*\}|\([^()\s]*\)|\[[^\[\]\s]*\])?"
)
_SEGMENT = re.compile(r"[^=,;()\[\]{}\"'|<>`]+")
_STRUCTURE = re.compile(r"[=,;()\[\]{}\"'|<>`]")
_LITERALS = word_set("true false True False TRUE FALSE null NULL nil undefined NaN")

_NUMBER = re.compile(r"[-+~$€£#.:vV]{0,2}0")
_NUMBER_AMONG_LETTERS = re.compile(r"[-+~$€£¥]?0(?:[0.,:/-]*0)?(?:[µμ]s|°[CF]?|[€£¥%])?")
_RELATIVE_PATH = re.compile(r"(?:\.{1,2}|~\w*)/\S+")
_WINDOWS_PATH = re.compile(r"(?:[A-Za-z]:\\|\\\\)\S*")
_OBJECT = re.compile(r"[\w$.\[]+@[0a-f]+")
_HOST = re.compile(r"(?:[\w-]+\.)+(?P<top>[A-Za-z]{2,})\.?(?P<port>:0+)?")

_HEX = re.compile(r"[0A-Fa-f]{4,}")
# UUIDs, MAC addresses, IPv6: groups of hexadecimal digits. Without a digit only a UUID's form says.
_HEX_GROUPS = re.compile(r"[0A-Fa-f]*(?:[-:.][0A-Fa-f]*){2,}(?:%\w+)?")
_MAC = re.compile(r"[0A-Fa-f]{2}([:-])(?:[0A-Fa-f]{2}\1){4}[0A-Fa-f]{2}")
_UUID = re.compile(r"[0a-fA-F]{8}-[0a-fA-F]{4}-[0a-fA-F]{4}-[0a-fA-F]{4}-[0a-fA-F]{12}")
_INTERLEAVED = re.compile(r"[0A-Za-z]*[A-Za-z]0+[A-Za-z]+0[0A-Za-z]*")

_WORD_NUMBER = re.compile(r"[^\W0_]+0+")
_CAMEL_CASE = re.compile(r"[A-Za-z]+0+[A-Z][a-z]+[A-Za-z0]*|\w*[a-z][a-z]0+[A-Z][a-z]{2}\w*")
_GLUE = re.compile(r"([:/#@]+)")
_GLUED_SECRET = re.compile(
    r"(?i)\b(password|passwd|pwd|passphrase|secret|token|api[-_]?key):[^:\s].*"
)
_ZEROS = re.compile("0+")
_RUNS = re.compile(r"<\*>(?:[-_.:/+,]?<\*>)+")

# Words that start a class or module name written backwards, as `com.example.Service`.
_PACKAGE_ROOTS = word_set("com org net io java javax jakarta sun jdk kotlin scala dev app de")
# Country domains that are English words, or common ends of dotted names, are left out.
_TOP_DOMAINS = word_set(
    "com net org edu gov mil int info biz io dev app cloud local internal lan localdomain "
    "intranet corp home arpa svc cluster test invalid example onion asia xyz online site tech"
)
_COUNTRIES = word_set(
    "ac ae ar au bg br ca ch cl cn co cz de dk ee es eu fi fr gr hk hr hu ie il ir jp ke kr "
    "lt lu lv ma mx nl nz pe ph pk pl pt ro rs ru sa se sg si sk th tr tv tw ua uk us uy ve "
    "vn za"
)


def mask_token(token: str) -> str:
    """Mask one token, which holds no white space and whose digits are all `0`."""
    if token.isalpha():
        return PLACEHOLDER if token in _LITERALS else token
    if "/" in token:
        if "://" in token:
            token = _URL.sub(PLACEHOLDER, token)
        token = _ROOTED_PATH.sub(PLACEHOLDER, token)
    if _STRUCTURE.search(token) is None:
        return _mask_segment(token)
    token = _COMPARED.sub("", token)
    if "]:" in token:
        token = _BRACKETED_ADDRESS.sub(PLACEHOLDER, token)
    if "=" in token:
        token = _ASSIGNMENT.sub(rf"\g<key>\g<sign>{PLACEHOLDER}", token)
    return _RUNS.sub(PLACEHOLDER, _SEGMENT.sub(_mask_match, token))


def _mask_match(match: re.Match[str]) -> str:
    return _mask_segment(match[0])


def _mask_segment(segment: str) -> str:
    body = segment.rstrip(".:!?")
    if not body or body == "*":
        return segment
    tail = segment[len(body) :]
    if body.isalpha():
        return PLACEHOLDER + tail if body in _LITERALS else segment
    if not body.isascii():
        # Not every script puts spaces between a number and the words around it.
        return _NUMBER_AMONG_LETTERS.sub(PLACEHOLDER, body) + tail
    if _is_variable(body):
        return PLACEHOLDER + tail
    if ":" in body:
        body = _GLUED_SECRET.sub(rf"\1:{PLACEHOLDER}", body)
    if "0" in body or ":" in body:
        parts = _GLUE.split(body)
        parts[::2] = map(_mask_part, parts[::2])
        return _RUNS.sub(PLACEHOLDER, "".join(parts)) + tail
    return segment


def _is_variable(body: str) -> bool:
    if _NUMBER.match(body) is not None or _is_hex(body):
        return True
    if "/" in body and (body.count("/") > 1 or _RELATIVE_PATH.fullmatch(body) is not None):
        return True
    if "\\" in body and (_WINDOWS_PATH.match(body) is not None or body.count("\\") > 1):
        return True
    if "@" in body and body[0] != "@" and _OBJECT.fullmatch(body) is None:
        return True
    return ("." in body and _is_host(body)) or body.startswith("localhost")


def _is_hex(body: str) -> bool:
    if "0" in body:
        return (
            _HEX.fullmatch(body) is not None
            or _HEX_GROUPS.fullmatch(body) is not None
            or _INTERLEAVED.fullmatch(body) is not None
        )
    if len(body) >= 32:
        return _HEX.fullmatch(body) is not None or _UUID.fullmatch(body) is not None
    return len(body) == 17 and _MAC.fullmatch(body) is not None


def _is_host(body: str) -> bool:
    match = _HOST.fullmatch(body)
    if match is None or body.partition(".")[0].lower() in _PACKAGE_ROOTS:
        return False
    top = match["top"].lower()
    if top in _COUNTRIES:
        return match["port"] is not None or body.count(".") > 1
    return top in _TOP_DOMAINS


def _mask_part(part: str) -> str:
    if not part:
        return part
    if part in _LITERALS or _is_hex(part):
        return PLACEHOLDER
    if "0" not in part:
        return part
    # The number of a word (`shard00`) or of a name in code (`Base00Decoder`) varies, the word does
    # not; the words of an identifier (`order-00`, `rdd_0_0`) vary with what it identifies.
    if _WORD_NUMBER.fullmatch(part) is not None or _CAMEL_CASE.fullmatch(part) is not None:
        return _ZEROS.sub(PLACEHOLDER, part)
    return PLACEHOLDER
