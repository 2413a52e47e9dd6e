"""The header by which a sender steers what becomes of one message.

X-Little-Bell: track=none; campaign=spring
"""

import re

from little_bell.mail.header import decode_words, read_header

NAME = b"x-little-bell"
MOST_FIELDS = 10
LONGEST = 2_000

_PAIR = re.compile(r'[\s;]*([^\s;="]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^;]*))', re.DOTALL)

_FIELD = re.compile(rb"^" + NAME + rb"[ \t]*:[^\n]*(?:\n[ \t][^\n]*)*\n?", re.I | re.MULTILINE)
_BODY = re.compile(rb"^\r?\n", re.MULTILINE)


def read_steering(raw: bytes) -> dict[str, str]:
    """What the message says in its header X-Little-Bell: names in lower case, values as they are.

    A value may stand in quotes, be UTF-8 or encoded words (RFC 2047). Of a name that comes twice
    the first holds; what is no pair is passed over, and so is a field of more than LONGEST
    characters. Never raises.
    """
    said: dict[str, str] = {}
    header = read_header(raw, 0, len(raw))
    for value in header.values(raw, NAME)[:MOST_FIELDS]:
        if len(value) > LONGEST:
            continue
        for match in _PAIR.finditer(decode_words(value)):
            quoted, bare = match[2], match[3]
            word = bare.strip() if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            said.setdefault(match[1].lower(), word)
    return said


def without_steering(raw: bytes) -> bytes:
    """The message without that header and its folded lines; the very object where there is none.

    Also from a header that cannot be read as a whole, and is not steered then: no recipient is to
    see it.
    """
    found = _BODY.search(raw)
    end = found.start() if found else len(raw)
    rest, count = _FIELD.subn(b"", raw[:end])
    return rest + raw[end:] if count else raw
