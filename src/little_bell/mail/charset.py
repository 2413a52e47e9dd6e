"""Charsets: from bytes to text and back, with the same bytes for what did not change."""

import codecs
from encodings import normalize_encoding
from encodings.aliases import aliases

from little_bell.mail import lines

# What their codecs in Python are for is not mail.
_UNFIT = ("idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined")

# Names that mail uses and Python does not know.
_ALIASES = {
    "iso-8859-8-i": "iso-8859-8",
    "x-gbk": "gbk",
    "x-sjis": "shift_jis",
    "unknown-8bit": "us-ascii",
}

# Those of Python's modules that have no other name.
_ALONE = (
    *("cp720", "cp737", "cp856", "cp874", "cp875", "cp1006", "koi8_t", "koi8_u", "utf_8_sig"),
    *("mac_arabic", "mac_croatian", "mac_farsi", "mac_romanian"),
)
_KNOWN = frozenset((*aliases, *aliases.values(), *_ALONE))

# Where a text does not keep to the charset that it names, it is nearly always in this one, which
# has the other in it (https://encoding.spec.whatwg.org/ reads the names so).
_WIDER = {
    "ascii": "utf-8",
    "big5": "cp950",
    "euc_kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
}

# Browsers write what stands in these as UTF-8 into a URL, and others in their own charset.
_UNICODE = ("utf_8", "utf_8_sig", "utf_16", "utf_16_be", "utf_16_le", "utf_7")


def is_unicode(codec: str) -> bool:
    return codec in _UNICODE


def codec_of(charset: str) -> str:
    """The name of the codec of a charset. Raises LookupError.

    Python keeps every name that it was ever asked for, hence it is asked for few.
    """
    name = charset.strip().lower()
    known = normalize_encoding(_ALIASES.get(name, name))
    if known not in _KNOWN:
        raise LookupError(name)
    codec = codecs.lookup(known).name.replace("-", "_")
    if codec in _UNFIT:
        raise LookupError(name)
    return codec


def decode(data: bytes, charset: str) -> tuple[str, str]:
    """The text, and the name of the codec that read it. Raises ValueError with a sentence."""
    name = charset.strip().lower()
    if len(name) > 40 or not name.isascii() or "\0" in name:
        raise ValueError("its charset is not known")
    try:
        codec = codec_of(name)
        try:
            return data.decode(codec), codec
        except UnicodeDecodeError:
            wider = _WIDER.get(codec)
            if wider is None:
                raise
            return data.decode(wider), wider
    except LookupError:
        raise ValueError(f"its charset {name!r} is not known") from None
    except UnicodeError:
        raise ValueError(f"it does not keep to its charset {name!r}") from None


def encode(text: str, codec: str, was: bytes, before: str, references: bool) -> bytes:
    """`text` in the charset of the bytes that were read as `before`.

    Where the charset knows several ways to write the same, lines that did not change keep theirs.
    With `references` a character that it does not have is written as a reference of HTML.
    Raises ValueError with a sentence.
    """
    errors = "xmlcharrefreplace" if references else "strict"
    try:
        if before.encode(codec) == was:
            return text.encode(codec, errors)
        known = [(line.decode(codec), line) for line in lines.of_bytes(was)]
        if "".join(line for line, _ in known) != before:  # a line says nothing by itself
            raise UnicodeError
        return lines.keep(known, lines.of_text(text), lambda line: line.encode(codec, errors))
    except UnicodeError:
        raise ValueError(f"it cannot be written in its charset {codec!r} again") from None
