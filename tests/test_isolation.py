"""No request with tenant A in its path ever reads, counts or changes anything of tenant B"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bell import BROWSER, Bell, Line, raw_request, read_rows, serving

# Names that a sloppy lookup would take for one another: by case, by prefix, by what LIKE does.
NAMES = ("a", "A", "a-", "a_", "aa", "a-b", "a_b", "axb", "ab", "0", "00", "a" * 64, "a" * 63)
EMAILS = 3  # of each tenant, to begin with


def secret(name: str) -> str:
    """A text that no other tenant's holds: it stands in everything of this one."""
    return f"secret{NAMES.index(name)}x"


@pytest.fixture(scope="module")
def bell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    with serving(tmp_path_factory.mktemp("isolation"), INSTANT_SECONDS="0") as bell:
        for name in NAMES:
            text = secret(name)
            for n in range(1, EMAILS + 1):
                bell.create(
                    name,
                    subject=f"subject {text}",
                    recipient=f"{text}@example.com",
                    campaign=f"campaign {text}",
                    metadata={text: text},
                )
                agent = {"User-Agent": f"{BROWSER} {text}"}
                url = quote(f"https://{text}.example/{n}", safe="")
                bell.ask("GET", f"/{name}/pixel/{n}.gif", headers=agent)
                bell.ask("GET", f"/{name}/click/{n}?url={url}", headers=agent)
        yield bell


def rows_by_tenant(bell: Bell) -> dict[str, list[Any]]:
    """Everything in the database, by the tenant it belongs to."""
    names = dict(bell.rows("SELECT tenant, name FROM tenants"))
    found: dict[str, list[Any]] = {name: [] for name in names.values()}
    tables = bell.rows("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
    for (table,) in tables:
        columns = [column[1] for column in bell.rows(f"PRAGMA table_info({table})")]
        assert "tenant" in columns, f"{table} holds rows of no tenant"
        at = columns.index("tenant")
        for row in read_rows(bell.database, f"SELECT * FROM {table} ORDER BY 1, 2, 3"):
            found[names[row[at]]].append((table, row))
    return found


class Ask(NamedTuple):
    """One request: what it asks of whom, in whose name others are mentioned."""

    tenant: str
    data: bytes


ids = st.one_of(
    st.integers(0, 8).map(str),
    st.sampled_from(["-1", "01", "1.gif", "+1", "1e0", "%31", "999999999", "", "*", "1/../2"]),
)
urls = st.sampled_from(
    ["https://example.com/", "https://example.com/2", "javascript:1", "", "//x", "https://a@b/"]
)


@st.composite
def asks(draw: st.DrawFn, tenant: str) -> Ask:
    """A request over any route with `tenant` in its path, that hints at another one elsewhere."""
    other = draw(st.sampled_from([name for name in NAMES if name != tenant]))
    email, url = draw(ids), quote(draw(urls), safe="")
    hints = f"tenant={other}&tenant_id={other}&id={email}"
    target = draw(
        st.sampled_from(
            [
                f"/{tenant}/pixel/{email}",
                f"/{tenant}/pixel/{email}.gif?{hints}",
                f"/{tenant}/click/{email}?url={url}&{hints}",
                f"/{tenant}/click/{email}?{hints}&url={url}",
                f"/{tenant}/click-url/{email}?url={url}&{hints}",
                f"/{tenant}/emails?{hints}",
                f"/{tenant}/dashboard?{hints}",
                f"/{tenant}/dashboard/{other}",
                f"/{tenant}/../{other}/dashboard",
                f"/{tenant}/../{other}/pixel/{email}.gif",
                f"/{tenant}/%2e%2e/{other}/click/{email}?url={url}",
                f"/{tenant}%2F{other}/pixel/{email}.gif",
                f"/{tenant}//pixel/{email}.gif",
                f"/{tenant}/pixel/{email}.gif#/{other}/pixel/1.gif",
                f"/{tenant}%00{other}/click/{email}?url={url}",
                f"http://{other}/{tenant}/pixel/{email}.gif",
                f"/{tenant}",
            ]
        )
    )
    method = draw(st.sampled_from(["GET", "GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS"]))
    if target.startswith(f"/{tenant}/emails"):
        method = draw(st.sampled_from(["POST", "POST", "GET"]))
    body = draw(
        st.sampled_from(
            [
                {},
                {"subject": "mine", "campaign": "mine", "metadata": {"tenant": other}},
                {"subject": "mine", "recipient": f"{other}@example.com"},
                {"tenant": other},
                {"email_id": 1},
                [],
            ]
        )
    )
    headers = [f"User-Agent: mine {BROWSER}", f"X-Tenant: {other}", f"Host-Tenant: {other}"]
    headers.append(f"Referer: http://localhost/{other}/dashboard")
    data = json.dumps(body).encode() if method in ("POST", "PUT") else None
    return Ask(tenant, raw_request(target, *headers, method=method, body=data))


def answer_of(bell: Bell, ask: Ask) -> bytes:
    """The whole answer as bytes."""
    with Line(bell.port) as line:
        line.send(ask.data)
        line.no_more()
        return line.rest()


@settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_no_request_touches_another_tenant(bell: Bell, data: st.DataObject) -> None:
    tenant = data.draw(st.sampled_from(NAMES), label="tenant")
    sequence = data.draw(st.lists(asks(tenant), min_size=1, max_size=6), label="requests")
    before = rows_by_tenant(bell)
    for ask in sequence:
        answer = answer_of(bell, ask)
        assert answer.startswith(b"HTTP/1.1 ")
        assert not answer.startswith(b"HTTP/1.1 5")
        for other in NAMES:
            assert other == tenant or secret(other).encode() not in answer, (other, ask)
    after = rows_by_tenant(bell)
    for name in set(before) | set(after):
        if name != tenant:
            assert after.get(name) == before.get(name), f"{name} was changed"
    assert set(after) == set(before), "a tenant came out of nowhere"


@pytest.mark.parametrize("name", NAMES)
def test_what_a_tenant_sees_is_its_own(bell: Bell, name: str) -> None:
    """So that the test above looks for something that pages do show."""
    page = bell.get(f"/{name}/dashboard").body
    assert f"subject {secret(name)}".encode() in page
    assert f"https://{secret(name)}.example/".encode() in page
    for other in NAMES:
        assert other == name or secret(other).encode() not in page


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(NAMES), st.integers(1, 6)), min_size=1, max_size=60))
def test_hits_of_many_tenants_in_one_tick_count_for_their_own(
    bell: Bell, hits: list[tuple[str, int]]
) -> None:
    """Pipelined, so that they share transactions, caches and batches."""

    def opens() -> dict[tuple[str, int], int]:
        rows = bell.rows("SELECT name, email, opens FROM tenants JOIN states USING (tenant)")
        return {(name, email): count for name, email, count in rows}

    before = opens()
    with Line(bell.port) as line:
        line.send(
            b"".join(
                raw_request(f"/{name}/pixel/{email}.gif", f"User-Agent: {BROWSER}")
                for name, email in hits
            )
        )
        for _ in hits:
            assert line.answer().status == 200
    after = opens()
    for key, count in after.items():
        assert count - before[key] == hits.count(key)


def test_dictionaries_are_not_shared(bell: Bell) -> None:
    """The same text is another row for another tenant: what one erases the other keeps."""
    for name in ("a", "A"):
        bell.get(f"/{name}/click/1?url=https://shared.example/", User_Agent="shared")
        bell.create(name, campaign="shared")
    for table, column, text in (
        ("links", "url", "https://shared.example/"),
        ("agents", "user_agent", "shared"),
        ("campaigns", "name", "shared"),
    ):
        sql = f"SELECT t.name FROM {table} AS x JOIN tenants AS t USING (tenant) WHERE x.{column}=?"
        assert sorted(bell.rows(sql, text)) == [("A",), ("a",)]
