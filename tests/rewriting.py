"""What tests of rewriting share: tracked addresses that say what they lead to, and mails."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from html import escape
from pathlib import Path

from hypothesis import settings

from conftest import SOAK
from little_bell.mail.report import Addresses, Options, Report

MAILS = Path(__file__).parent / "mails"
HOST = "https://t.example/"
PIXEL = f"{HOST}acme/o/1/AAECAwQFBgcICQoL.gif"
IMG = f'<img src="{PIXEL}" width="1" height="1" alt="" />'
LINK = f"{HOST}acme/l/1/"
BARE = Options(pixel="none")
OFTEN = settings(max_examples=20_000 if SOAK else 150, deadline=None)


def track(url: str, label: str = "", part: str = "html") -> str:
    """The tracked address of a link. It tells everything, and has an ampersand to be escaped."""
    joined = "\n".join((url, label, part)).encode("utf-8")
    return f"{LINK}{urlsafe_b64encode(joined).decode('ascii').rstrip('=')}?a&b"


def told(tracked: str) -> list[str]:
    """What a tracked address leads to, its label and its part."""
    text = tracked.removeprefix(LINK).removesuffix("?a&b")
    return urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("utf-8").split("\n")


def attribute(url: str, label: str = "") -> str:
    """A tracked address as it stands in an attribute."""
    return escape(track(url, label), quote=False)


def mail(name: str) -> str:
    """A mail of tests/mails, its line ends as they are."""
    return (MAILS / name).read_bytes().decode("utf-8")


def reasons(report: Report) -> list[tuple[str, str]]:
    return [(one.url, one.reason) for one in report.skipped]


ADDRESSES = Addresses(track, PIXEL, (HOST,))
