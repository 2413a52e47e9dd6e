"""deploy/Caddyfile with the real Caddy, and what docs/PROXIES.md says of it"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from bell import fresh_tenant, serving
from browser import needs_chromium
from front_checks import every_check, keeps_others_out, the_dashboard_works, works_under_a_path
from fronts import (
    CLIENTS,
    ROOT,
    SITE,
    Front,
    blocks,
    guarded,
    head,
    sent,
    stored,
)
from programs import find, free_ports, needs

pytestmark = needs("caddy")

FILE = (ROOT / "deploy" / "Caddyfile").read_text()
OWN_CERTIFICATE = "# tls /etc/ssl/track.pem /etc/ssl/track.key"
# Other ports than 80 and 443, on loopback; nothing is installed and no other port is opened.
OPTIONS = """{{
	http_port {plain}
	https_port {tls}
	default_bind 127.0.0.1 ::1
	admin off
	skip_install_trust
}}
"""


@contextmanager
def caddy(folder: Path, text: str, bell: str = "", **settings: str) -> Iterator[Front]:
    """Caddy with this text in the place of deploy/Caddyfile, in front of a bell with settings.

    `bell`: where it listens, if not on a port of 127.0.0.1.
    """
    tls, plain = free_ports(2, "127.0.0.1", "::1")
    prefix = settings.pop("PREFIX", "")
    settings = {"ADDRESSES": "full", "MAX_BULK_BYTES": "8000000", **settings}
    with serving(folder, BASE_URL=f"https://{SITE}:{tls}{prefix}", **settings) as server:
        front = Front(folder, server, tls, plain)
        own = front.certificate
        for old, new in (
            (OWN_CERTIFICATE, f"tls {own.cert} {own.key}"),
            ("output stdout", f"output file {front.log_file}"),
        ):
            assert old in text, old
            text = text.replace(old, new)
        (folder / "Caddyfile").write_text(OPTIONS.format(tls=tls, plain=plain) + text)
        program = find("caddy")
        assert program
        upstream = bell or f"127.0.0.1:{server.port}"
        command = [program, "run", "--config", "Caddyfile", "--adapter", "caddyfile"]
        home = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
        with front.running(command, SITE=SITE, BELL=upstream, **home):
            yield front


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with caddy(tmp_path_factory.mktemp("caddy"), FILE) as front:
        yield front


@every_check
def test_in_front(front: Front, check: Callable[[Front], None]) -> None:
    check(front)


@needs_chromium
def test_the_dashboard(front: Front, browser: Browser) -> None:
    the_dashboard_works(front, browser)


def test_the_example_that_keeps_others_out(tmp_path: Path) -> None:
    with caddy(tmp_path, guarded(FILE, "127.0.0.3/32")) as front:
        keeps_others_out(front)


@pytest.mark.parametrize("kind", ["prefix, kept by Caddy", "prefix, stripped by Caddy"])
def test_under_a_path(tmp_path: Path, kind: str) -> None:
    """BASE_URL has a path: both ways count, redirect and keep paths as they came."""
    begin, end = FILE.index("\treverse_proxy"), FILE.index("\theader -Server")
    text = FILE[:begin] + blocks("PROXIES.md")[kind] + FILE[end:]
    with caddy(tmp_path, text, PREFIX="/bell") as front:
        works_under_a_path(front)
        assert front.send(head("/bell/acme/recipients/a%2Fb@example.com")).status == 200


def test_a_unix_socket(tmp_path: Path) -> None:
    path = f"{tmp_path}/bell.sock"
    with caddy(tmp_path, FILE, f"unix/{path}", HOST=f"unix:{path}") as front:
        tenant = fresh_tenant()
        assert front.send(sent(f"/{tenant}/emails", b"{}")).status == 201
        for source in CLIENTS:
            front.send(head(f"/{tenant}/pixel/1.gif", "X-Forwarded-For: 6.6.6.6"), source)
        assert stored(front.bell, tenant) == list(CLIENTS)
