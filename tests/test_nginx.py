"""deploy/nginx.conf with the real nginx, and what docs/PROXIES.md says of it"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from bell import fresh_tenant, serving
from browser import needs_chromium
from front_checks import (
    LIES,
    every_check,
    hits,
    keeps_others_out,
    the_dashboard_works,
    works_under_a_path,
)
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

pytestmark = needs("nginx")

CONF = (ROOT / "deploy" / "nginx.conf").read_text()
LOCATION = """    location / {
        proxy_pass http://little_bell;
    }
"""
# Around it, as Debian's nginx.conf has it: gzip is on.
MAIN = """
daemon off;
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    gzip on;
    client_body_temp_path {folder}/temp_body;
    proxy_temp_path {folder}/temp_proxy;
    fastcgi_temp_path {folder}/temp_fastcgi;
    uwsgi_temp_path {folder}/temp_uwsgi;
    scgi_temp_path {folder}/temp_scgi;
    include {folder}/little-bell.conf;
}}
"""


@contextmanager
def nginx(folder: Path, text: str, bell: str = "", **settings: str) -> Iterator[Front]:
    """nginx with this text in the place of deploy/nginx.conf, in front of a bell with settings.

    `bell`: where it listens, if not on a port of 127.0.0.1.
    """
    tls, plain = free_ports(2, "127.0.0.1", "::1")
    prefix = settings.pop("PREFIX", "")
    settings = {"ADDRESSES": "full", "MAX_BULK_BYTES": "8000000", **settings}
    with serving(folder, BASE_URL=f"https://{SITE}:{tls}{prefix}", **settings) as server:
        front = Front(folder, server, tls, plain)
        upstream = bell or f"127.0.0.1:{server.port}"
        for old, new in (
            ("${BELL}", upstream),
            (f"/etc/letsencrypt/live/{'${SITE}'}/fullchain.pem", front.certificate.cert),
            (f"/etc/letsencrypt/live/{'${SITE}'}/privkey.pem", front.certificate.key),
            ("${SITE}", SITE),
            ("listen 80;", f"listen 127.0.0.1:{plain};"),
            ("listen [::]:80;", f"listen [::1]:{plain};"),
            ("listen 443 ", f"listen 127.0.0.1:{tls} "),
            ("listen [::]:443 ", f"listen [::1]:{tls} "),
            ("/var/log/nginx/access.log", str(front.log_file)),
        ):
            assert old in text, old
            text = text.replace(old, new)
        (folder / "little-bell.conf").write_text(text)
        user = "user root;" if os.geteuid() == 0 else ""  # the tests' folders are root's alone
        (folder / "nginx.conf").write_text(MAIN.format(folder=folder, user=user))
        program = find("nginx")
        assert program
        command = [program, "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]
        with front.running(command):
            yield front


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with nginx(tmp_path_factory.mktemp("nginx"), CONF) as front:
        yield front


@every_check
def test_in_front(front: Front, check: Callable[[Front], None]) -> None:
    check(front)


@needs_chromium
def test_the_dashboard(front: Front, browser: Browser) -> None:
    the_dashboard_works(front, browser)


def test_the_trap(tmp_path: Path) -> None:
    """A location for images does not inherit what stands in its neighbour: as the docs show it."""
    wrong = "".join(
        line
        for line in CONF.splitlines(keepends=True)
        if not line.strip().startswith("proxy_set_header")
    )
    assert LOCATION in wrong
    wrong = wrong.replace(LOCATION, blocks("PROXIES.md")["wrong"])
    with nginx(tmp_path, wrong) as front:
        assert hits(front) == ["127.0.0.1", "127.0.0.2", "127.0.0.1", "127.0.0.3"]


def test_one_header_of_its_own_takes_all_others_away(tmp_path: Path) -> None:
    own = '    location ~ \\.gif$ {\n        proxy_set_header X-Mail "1";\n'
    wrong = CONF.replace(
        LOCATION, own + "        proxy_pass http://little_bell;\n    }\n" + LOCATION
    )
    with nginx(tmp_path, wrong) as front:
        assert hits(front) == ["127.0.0.1", "127.0.0.2", "127.0.0.1", "127.0.0.3"]


def test_a_location_without_headers_of_its_own_is_right(tmp_path: Path) -> None:
    right = CONF.replace(LOCATION, blocks("PROXIES.md")["right"] + LOCATION)
    with nginx(tmp_path, right) as front:
        assert hits(front) == ["127.0.0.2", "127.0.0.2", "127.0.0.3", "127.0.0.3"]


def test_the_example_that_keeps_others_out(tmp_path: Path) -> None:
    text = guarded(CONF.replace(LOCATION, ""), "127.0.0.3/32")
    with nginx(tmp_path, text) as front:
        keeps_others_out(front)


@pytest.mark.parametrize("kind", ["prefix, kept", "prefix, stripped"])
def test_under_a_path(tmp_path: Path, kind: str) -> None:
    """BASE_URL has a path: both ways count and redirect; only the first keeps %2F in paths."""
    text = CONF.replace(LOCATION, blocks("PROXIES.md")[kind])
    with nginx(tmp_path, text, PREFIX="/bell") as front:
        works_under_a_path(front)
        found = front.send(head("/bell/acme/recipients/a%2Fb@example.com"))
        assert found.status == (200 if kind == "prefix, kept" else 404)


def test_a_unix_socket(tmp_path: Path) -> None:
    """As in the line of the file's head."""
    path = f"unix:{tmp_path}/bell.sock"
    assert "# or unix:/run/" in CONF
    with nginx(tmp_path, CONF, path, HOST=path) as front:
        tenant = fresh_tenant()
        assert front.send(sent(f"/{tenant}/emails", b"{}")).status == 201
        for source in CLIENTS:
            assert front.send(head(f"/{tenant}/pixel/1.gif", *LIES), source)
        assert stored(front.bell, tenant) == list(CLIENTS)


@pytest.mark.parametrize("file", ["nginx.conf", "Caddyfile"])
def test_idle_connections_end_here_before_they_end_at_the_bell(file: str) -> None:
    """Else a POST may meet one that is being closed, and get 502."""
    usage = (ROOT / "docs" / "USAGE.md").read_text()
    [bell] = re.findall(r"\| `IDLE_SECONDS` \| `(\d+)` \|", usage)
    text = (ROOT / "deploy" / file).read_text()
    [proxy] = re.findall(r"^\s*keepalive(?:_timeout)? (\d+)s", text, re.M)
    assert int(proxy) < int(bell)
