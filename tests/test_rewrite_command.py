"""`little-bell rewrite`: an email from stdin to stdout, tracked; or as it came, whatever fails."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

import signatures
from bell import Bell, dump, events

KEY = "a-key-that-signs-links-in-tests"
BASE = "https://t.example"
URL = "https://shop.example/"
MAIL = (
    b"To: ada@example.com\r\nSubject: Spring\r\nX-Little-Bell: campaign=spring\r\n"
    b"Content-Type: text/html; charset=iso-8859-1\r\n\r\n"
    b"<p>\xfc <a href='https://shop.example/'>Shop</a></body>\r\n"
)


class Ran(NamedTuple):
    code: int
    out: bytes
    err: str


def run(folder: Path, source: bytes, *arguments: str, **settings: str) -> Ran:
    """The command in the folder in which a server was started."""
    ran = subprocess.run(
        [sys.executable, "-m", "little_bell", "rewrite", *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **settings},
        input=source,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return Ran(ran.returncode, ran.stdout, ran.stderr.decode())


def tracked(source: bytes, email: int, base: str = BASE, label: str = "Shop") -> bytes:
    """What is to come of MAIL and its like."""
    key = KEY.encode()
    link = f"{base}/acme/l/{email}/{signatures.token(key, 'acme', email, URL, label, 'html')}"
    src = f"{base}/acme/o/{email}/{signatures.pixel(key, 'acme', email)}"
    image = f'<img src="{src}" width="1" height="1" alt="" />'
    made = source.replace(URL.encode(), link.encode())
    made = made.replace(b"</body>", image.encode() + b"</body>")
    return made.replace(b"X-Little-Bell: campaign=spring\r\n", b"")


@pytest.fixture
def bell(start_bell: Callable[..., Bell]) -> Bell:
    bell = start_bell(SECRET_KEY=KEY, BASE_URL=BASE, INSTANT_SECONDS="0")
    bell.create()
    return bell


def test_it_works_beside_a_server(bell: Bell) -> None:
    """With that server's BASE_URL, whatever the command was told."""
    ran = run(bell.folder, MAIL, "--tenant", "acme", SECRET_KEY=KEY)
    assert ran.code == 0, ran.err
    assert ran.out == tracked(MAIL, 2)
    told = json.loads(ran.err)
    assert told["email_id"] == 2
    assert [one["url"] for one in told["report"]["tracked"]] == [URL]
    stored = bell.get("/acme/emails/2").json
    assert (stored["subject"], stored["recipient"]) == ("Spring", "ada@example.com")
    assert stored["campaign"] == "spring"
    link = told["report"]["tracked"][0]["tracked_url"].removeprefix(BASE)
    assert bell.get(link).headers["location"] == URL
    assert events(bell, "acme") == [(2, "click")]


def test_it_works_without_a_server(bell: Bell) -> None:
    bell.stop()
    settings = {"SECRET_KEY": KEY, "BASE_URL": BASE}
    with ThreadPoolExecutor(4) as threads:
        found = list(
            threads.map(lambda _: run(bell.folder, MAIL, "--tenant", "acme", **settings), range(4))
        )
    assert {ran.code for ran in found} == {0}, found
    assert {ran.out for ran in found} == {tracked(MAIL, email) for email in (2, 3, 4, 5)}
    bell.start()
    assert bell.get("/acme/emails/5").json["campaign"] == "spring"
    assert bell.create() == 6


def test_a_server_that_starts_meanwhile_is_asked(bell: Bell) -> None:
    control = bell.database.with_name("tracking.db.control")
    hidden = control.with_name("hidden")
    control.rename(hidden)  # as before it listens, with the lock taken already
    with ThreadPoolExecutor(1) as threads:
        found = threads.submit(run, bell.folder, MAIL, "--tenant", "acme", SECRET_KEY=KEY)
        time.sleep(1)
        assert not found.done()
        hidden.rename(control)
        ran = found.result()
    assert (ran.code, ran.out) == (0, tracked(MAIL, 2)), ran.err


def test_a_file_of_html(bell: Bell) -> None:
    for charset in ("utf-8", "iso-8859-1"):
        page = (
            f"<!doctype html><meta charset='{charset}'>\r\n<p>\u00fc<a href={URL}>Shop</a></body>"
        )
        source = page.encode(charset)
        arguments = ("--tenant", "acme", "--dry-run", "--recipient", "x@example.com")
        ran = run(bell.folder, source, *arguments, SECRET_KEY=KEY)
        assert (ran.code, ran.out) == (0, tracked(source, 0)), ran.err
    piece = b"Just <a href='https://shop.example/'>Shop</a></body>"
    ran = run(bell.folder, piece, "--html", "--tenant=acme", "--campaign=c", SECRET_KEY=KEY)
    assert ran.out == tracked(piece, 2)
    assert bell.get("/acme/emails/2").json["campaign"] == "c"


def test_options_and_report(bell: Bell) -> None:
    arguments = ("--tenant", "acme", "--pixel", "none", "--report", "report.json")
    ran = run(bell.folder, MAIL, *arguments, SECRET_KEY=KEY)
    assert (ran.code, ran.err) == (0, "")
    assert b"<img" not in ran.out
    told = json.loads((bell.folder / "report.json").read_text())
    assert (told["email_id"], told["report"]["problems"]) == (2, [])


def test_a_message_that_is_not_to_be_tracked(bell: Bell) -> None:
    ran = run(bell.folder, b"x-little-bell: track=none\n" + MAIL, "--tenant", "acme")
    assert (ran.code, ran.out) == (1, b"x-little-bell: track=none\n" + MAIL)  # it has no keys
    ran = run(
        bell.folder, b"x-little-bell: track=none\nA: b\n\nc", "--tenant", "acme", SECRET_KEY=KEY
    )
    assert (ran.code, ran.out) == (0, b"A: b\n\nc")
    assert bell.get("/acme/emails").json["emails"][0]["email_id"] == 1


@pytest.mark.parametrize(
    ("arguments", "settings", "code", "said"),
    [
        ((), {}, 1, "--tenant"),
        (("--tenant", "a/b"), {}, 1, "--tenant"),
        (("--tenant",), {}, 2, "needs a value"),
        (("--tennant", "acme"), {}, 2, "--tennant"),
        (("acme",), {}, 2, "acme"),
        (("--tenant", "acme", "--pixel", "left"), {}, 1, "pixel"),
        (("--tenant", "acme", "--placeholder", "x" * 257), {}, 1, "placeholder"),
        (("--tenant", "acme", "--consent", "some"), {}, 1, "consent"),
        (("--tenant", "acme", "--campaign", "x" * 129), {}, 1, "campaign"),
        (("--tenant", "acme"), {"SECRET_KEY": "another-key-than-the-server"}, 1, "SECRET_KEY"),
        (("--tenant", "acme"), {"PORT": "x"}, 3, "PORT"),
        (("--tenant", "acme"), {"DATABASE_URL": "sqlite:not-there.db"}, 1, "not-there.db"),
        (("--tenant", "acme"), {"MAX_MESSAGE_BYTES": "65536"}, 1, "65536"),
    ],
)
def test_whatever_fails_the_email_goes_out_as_it_came(
    bell: Bell, arguments: tuple[str, ...], settings: dict[str, str], code: int, said: str
) -> None:
    before = dump(bell.database)
    source = MAIL + b"\xff\0x\r\n" * 50_000
    ran = run(bell.folder, source, *arguments, **{"SECRET_KEY": KEY, **settings})
    assert (ran.code, ran.out) == (code, source)
    assert said in ran.err
    assert len(ran.err.splitlines()) == 1
    assert dump(bell.database) == before


@pytest.mark.parametrize("source", [b"", b" \n", b"<p>\xff\xfe</p>", b"<meta charset=klingon>"])
def test_what_cannot_be_read_goes_out_as_it_came(bell: Bell, source: bytes) -> None:
    ran = run(bell.folder, source, "--tenant", "acme", SECRET_KEY=KEY)
    assert (ran.code, ran.out) == (1, source)
    assert ran.err.startswith("little-bell: the email goes out as it came: ")


def test_a_report_that_cannot_be_written(bell: Bell) -> None:
    arguments = ("--tenant", "acme", "--report", "no/such/folder")
    ran = run(bell.folder, MAIL, *arguments, SECRET_KEY=KEY)
    assert (ran.code, ran.out) == (1, tracked(MAIL, 2))
    assert "the report cannot be written" in ran.err


def test_keys_of_a_file_are_the_servers(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell()
    ran = run(bell.folder, MAIL, "--tenant", "acme")
    assert ran.code == 0, ran.err
    [one] = json.loads(ran.err)["report"]["tracked"]
    base = f"http://localhost:{bell.port}"
    assert bell.get(one["tracked_url"].removeprefix(base)).headers["location"] == URL
