"""Options of rewriting as they are given: as JSON, or in words of queries, headers, commands."""

from collections.abc import Mapping

from little_bell.errors import Refused
from little_bell.mail.report import PIXEL_PLACES, Options

NAMES = Options._fields
TEXTS = ("pixel", "placeholder")  # the others are flags
MAX_PLACEHOLDER = 256  # characters
YES, NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def read_options(value: object) -> Options:
    """The member `options` of an email. Raises Refused (400) that names what is wrong."""
    if value is None:
        return Options()
    if not isinstance(value, dict):
        raise Refused(400, "options is not an object", "options")
    for name, one in value.items():
        field = f"options.{name}"
        if name not in NAMES:
            known = ", ".join(NAMES)
            raise Refused(400, f"unknown option {name[:64]!r}; known are {known}", "options")
        if name == "placeholder" and one is None:
            continue
        if not isinstance(one, str if name in TEXTS else bool):
            kind = "a string" if name in TEXTS else "true or false"
            raise Refused(400, f"{field} is not {kind}", field)
    return _checked(Options(**value), "options.")


def read_words(words: Mapping[str, str], options: Options | None = None) -> Options:
    """The same of words by the names of options; others are passed over. What is not said is as in
    `options`. Raises Refused (400) that names what is wrong."""
    given: dict[str, object] = {
        name: words[name] if name in TEXTS else read_flag(words[name], name)
        for name in NAMES
        if name in words
    }
    return _checked((options or Options())._replace(**given), "")  # type: ignore[arg-type]


def read_flag(word: str, name: str) -> bool:
    """A word that says yes or no. Raises Refused (400)."""
    if word.lower() in YES:
        return True
    if word.lower() not in NO:
        raise Refused(400, f"{name} is neither 1 nor 0", name)
    return False


def _checked(options: Options, before: str) -> Options:
    if options.pixel not in PIXEL_PLACES:
        field = f"{before}pixel"
        raise Refused(400, f"{field} is none of {', '.join(PIXEL_PLACES)}", field)
    placeholder = options.placeholder
    if placeholder is not None and not 0 < len(placeholder) <= MAX_PLACEHOLDER:
        field = f"{before}placeholder"
        raise Refused(400, f"{field} is not 1 to {MAX_PLACEHOLDER} characters", field)
    return options
