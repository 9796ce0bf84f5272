"""Redaction: what an example of a fingerprint may not show.

Examples leave ingest, are kept in topics and shown to people. Secrets and personal data are
replaced before that. When in doubt a value is replaced: an example is to be recognised, not to be
read back.
"""

from __future__ import annotations

import re

from streamwatch.fingerprint.controls import strip_escapes, strip_hidden
from streamwatch.fingerprint.words import word_list

REDACTED = "<redacted>"
EMAIL = "<email>"
CARD = "<card>"

#: Text beyond this many times the limit is never looked at.
_WINDOW = 8

# Short words count only where a word starts: `pin=`, not `spin=`.
_TELLING_NAME = (
    r"(?:password|passwd|passphrase|passcode|secret|token|credentials?|api[_\-. ]?key"
    r"|(?:access|account|private|encryption|signing|shared|master|subscription)[_\-. ]?key"
    r"|session[_\-]?(?:id|key)|jsessionid|signature|authorization|cookie|csrf|xsrf"
    r"|(?<![a-z])(?:pwd|pass|auth|auth[_\-]key|sessid|session|otp|cvv2?|cvc|ssn|pin|sig))"
)
_SPOKEN_NAME = r"(?:password|passwd|passphrase|passcode|pwd|secret)"
_VALUE = r"(?:\\?\"[^\"\n]{0,4000}(?:\"|$)|\\?'[^'\n]{0,4000}(?:'|$)|[^\s,;&\"'<>(){}\[\]|\\]+)"

_Rules = tuple[tuple[re.Pattern[str], str], ...]

#: Secrets that only their name gives away; tried when one of `_HINTS` occurs.
_NAMED_RULES: _Rules = tuple(
    (re.compile(pattern, re.IGNORECASE), replacement)
    for pattern, replacement in (
        # Headers whose whole value is a secret.
        (
            r"\b((?:set-)?cookie2?|(?:proxy-)?authorization)(\\*[\"']?\s{0,3}[:=]\s{0,3}\\*)"
            r"(?:\"[^\"\n]*\"?|'[^'\n]*'?|(?:digest|aws\d-hmac|hawk)[^\n]*|[^\"'\n]+)",
            rf"\1\2{REDACTED}",
        ),
        (
            r"\b(bearer|basic|negotiate|ntlm|apikey)\s+(?=[\w.~+/=\-]*[\d.=+/]|[\w.~+/=\-]{16})"
            r"[\w.~+/=\-]{6,}",
            rf"\1 {REDACTED}",
        ),
        # key=value, key: value, JSON, and command line flags.
        (
            rf"({_TELLING_NAME}(?:s|[_\-.]?(?:id|key|value|hash|data))?\\*[\"']?"
            rf"\s{{0,3}}(?:=>|:=|[:=])\s{{0,3}}){_VALUE}",
            rf"\1{REDACTED}",
        ),
        (rf"((?<=\s)--?[\w\-]{{0,30}}{_TELLING_NAME}\s+)(?!-){_VALUE}", rf"\1{REDACTED}"),
        (
            rf"\b({_SPOKEN_NAME}\s+(?:is\s+|was\s+)?)(?:\"[^\"\n]+\"|'[^'\n]+'|`[^`\n]+`)",
            rf"\1{REDACTED}",
        ),
        (rf"\b({_SPOKEN_NAME}\s+(?:is|was)\s+)[^\s\"'<]+", rf"\1{REDACTED}"),
    )
)
_HINTS = word_list(
    "pass key pwd secret token credential session sessid signature sig auth cookie csrf xsrf "
    "otp cv ssn pin bearer basic negotiate ntlm"
)

#: Secrets and personal data that show what they are.
_RULES: _Rules = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        # Private keys, also when their end was cut off.
        (
            r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----(?s:.*?)"
            r"(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\Z)",
            REDACTED,
        ),
        (r"AGE-SECRET-KEY-[A-Z0-9]+", REDACTED),
        # Credentials in URLs, with or without a user name.
        (r"(://)[^\s\"'<>]{1,300}@", rf"\1{REDACTED}@"),
        # Tokens that show what they are.
        (r"\beyJ[\w\-]{5,}(?:\.[\w\-]*){1,4}", REDACTED),
        (r"\b(?:AKIA|ASIA|AGPA|AIDA|AROA|ANPA|ANVA|ABIA|ACCA)[A-Z0-9]{12,}", REDACTED),
        (r"\b(?:gh[pousr]_|github_pat_|glpat-|npm_|pypi-|dop_v1_|hv[sb]\.)[\w\-]{16,}", REDACTED),
        (r"\bxox[a-z](?:-[\w]+)+|\bxapp-[\w\-]{10,}", REDACTED),
        (r"hooks\.slack\.com/(?:services|workflows)/[\w/]+", REDACTED),
        (r"\b(?:[spr]k_(?:live|test)_|whsec_)\w{8,}|\bsk-[\w\-]{16,}", REDACTED),
        (r"\bAIza[\w\-]{30,}|\bya29\.[\w\-]{10,}|\bSG\.[\w\-]{10,}\.[\w\-]{10,}", REDACTED),
        (r"\bSK[0-9a-f]{32}\b|\b\d{8,10}:[\w\-]{35}\b", REDACTED),
        (r"[\w.+%\-]{1,64}@[\w\-]{1,63}(?:\.[\w\-]{1,63}){1,8}", EMAIL),
        # A long base64 run that mixes cases and digits is a key more often than not.
        (
            r"(?<![\w+/=\-])(?=[\w+/\-]{0,200}[a-z])(?=[\w+/\-]{0,200}[A-Z])(?=[\w+/\-]{0,200}\d)"
            r"(?![\w+/\-]{0,200}(?:/\w+){3})[\w+/\-]{40,}={0,2}",
            REDACTED,
        ),
    )
)
_CARD_NUMBER = re.compile(
    r"(?<![\w.])(?:[2-6]\d{3}([ -]?)\d{4}\1\d{4}\1\d{1,7}|3[47]\d{2}([ -]?)\d{6}\2\d{5})(?![\w])"
)


def redact(text: str, limit: int = 500) -> str:
    """Text that may be shown: secrets and personal data replaced, on one line, cut.

    Args:
        text: hostile text of any length.
        limit: characters of the result at most; a longer one ends with `…`.

    Returns:
        The text without control characters and terminal escapes, with `<email>` and `<card>` for
        addresses and card numbers, and `<redacted>` for tokens, keys, passwords, cookies,
        authorization headers and private keys.
    """
    window = _WINDOW * max(limit, 100)
    if len(text) > window:
        # A secret that the cut goes through would no longer be recognised.
        text = text[:window]
        end = max(text.rfind(" "), text.rfind("\n"))
        text = text[:end] if end > window // 2 else text
    text = strip_escapes(text)
    text = "\n".join(strip_hidden(line) for line in text.splitlines())
    lowered = text.lower()
    if any(hint in lowered for hint in _HINTS):
        for pattern, replacement in _NAMED_RULES:
            text = pattern.sub(replacement, text)
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    text = _CARD_NUMBER.sub(_replace_card, text)
    text = " ".join(text.split())
    return text if len(text) <= limit else f"{text[: max(limit - 1, 0)]}…"


def _replace_card(match: re.Match[str]) -> str:
    digits = [int(character) for character in match[0] if character.isdigit()]
    total = sum(digits[-1::-2]) + sum(sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return CARD if total % 10 == 0 else match[0]
