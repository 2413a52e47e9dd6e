"""A JSON object that holds long texts, read in little more memory than these take."""

from little_bell.api.batches import DECODER, behind_comma, skip_space
from little_bell.errors import Refused

MOST_MEMBERS = 100


def read_large(body: bytes, short: int) -> dict[str, object]:
    """The members of an object: texts of any length, and other values of at most `short` characters
    each, since millions of small ones would take 30 times their size. Raises Refused (400)."""
    members: dict[str, object] = {}
    try:
        text = body.decode("utf-8")
        at = _behind(text, 0, "{")
        more = text[at : at + 1] != "}"
        count = 0
        while more:
            count += 1
            if count > MOST_MEMBERS:
                raise Refused(400, f"the body has more than {MOST_MEMBERS} members")
            if text[at : at + 1] != '"':
                raise ValueError(f"expecting a name in quotes: char {at}")
            name, at = DECODER.raw_decode(text, at)
            at = _behind(text, at, ":")
            if text[at : at + 1] == '"':
                members[name], at = DECODER.raw_decode(text, at)
            else:
                members[name], length = DECODER.raw_decode(text[at : at + short])
                at += length
            more, at = behind_comma(text, at)
        if text[at : at + 1] != "}" or skip_space(text, at + 1) != len(text):
            raise ValueError(f"expecting the end of the object, or a comma: char {at}")
    except UnicodeDecodeError:
        raise Refused(400, "the body is not UTF-8") from None
    except RecursionError:
        raise Refused(400, "the body is nested too deeply") from None
    except ValueError as error:
        detail = f"the body is not JSON, or has a long value that is no text: {error}"
        raise Refused(400, detail) from None
    return members


def _behind(text: str, at: int, mark: str) -> int:
    """Where what follows a mark begins. Raises ValueError where the mark is not there."""
    at = skip_space(text, at)
    if text[at : at + 1] != mark:
        raise ValueError(f"expecting {mark!r}: char {at}")
    return skip_space(text, at + 1)
