"""PATCH and DELETE of emails, DELETE of a tenant, the test email: against a running server"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from bell import Answer, Bell, Line, fresh_tenant, raw_request, serving, wait_until

NAMES = ("sent", "opens", "machine_opens", "unique_opens", "clicks", "unique_clicks")


@pytest.fixture(scope="module")
def bell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    with serving(tmp_path_factory.mktemp("changes"), INSTANT_SECONDS="0") as bell:
        yield bell


def figures(bell: Bell, tenant: str, campaign: str | None = None) -> tuple[int, ...]:
    """NAMES of a tenant or of one of its campaigns, by plain sums over the table."""
    where, values = "scope = 0", [tenant]
    if campaign is not None:
        where = (
            "scope = 1 AND id = (SELECT campaign FROM campaigns AS c"
            " WHERE c.tenant = f.tenant AND c.name = ?)"
        )
        values.append(campaign)
    columns = ", ".join(f"ifnull(sum({name}), 0)" for name in NAMES)
    [row] = bell.rows(
        f"SELECT {columns} FROM figures AS f JOIN tenants USING (tenant)"
        f" WHERE name = ? AND {where}",
        *values,
    )
    return row


def texts(answer: Answer) -> tuple[object, ...]:
    assert answer.status == 200, answer
    found = answer.json
    return found["subject"], found["recipient"], found["campaign"], found["metadata"]


def patch(bell: Bell, tenant: str, email: int, **members: object) -> Answer:
    return bell.ask("PATCH", f"/{tenant}/emails/{email}", members)


def test_what_is_named_changes_and_the_rest_stays(bell: Bell) -> None:
    tenant = fresh_tenant()
    email = bell.create(tenant, subject="Hi", recipient="ada@example.com", metadata={"a": "b"})
    answer = patch(bell, tenant, email, subject="Hello")
    assert texts(answer) == ("Hello", "ada@example.com", None, {"a": "b"})
    assert answer.json["email_id"] == email
    assert texts(patch(bell, tenant, email, campaign="spring")) == (
        "Hello",
        "ada@example.com",
        "spring",
        {"a": "b"},
    )
    assert texts(patch(bell, tenant, email, subject=None, metadata=None)) == (
        None,
        "ada@example.com",
        "spring",
        None,
    )
    assert bell.rows("SELECT max(last_email) FROM tenants WHERE name = ?", tenant) == [(1,)]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, None),
        ({"subject": 1}, "subject"),
        ({"recipient": "x" * 321}, "recipient"),
        ({"to": "x"}, "to"),
        ({"metadata": []}, "metadata"),
        ("no", None),
        ("[]", None),
    ],
)
def test_a_wrong_change_is_refused(bell: Bell, body: str | dict[str, object], field: str) -> None:
    tenant = fresh_tenant()
    email = bell.create(tenant, subject="Hi")
    answer = bell.ask("PATCH", f"/{tenant}/emails/{email}", body)
    assert answer.status == 400
    assert answer.json.get("field") == field
    assert bell.rows(
        "SELECT subject FROM emails JOIN tenants USING (tenant) WHERE name = ?", tenant
    ) == [("Hi",)]


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
@pytest.mark.parametrize("path", ["acme/emails/1", "{0}/emails/2", "{0}/emails/01", "{0}/emails/x"])
def test_an_email_that_is_not_there(bell: Bell, method: str, path: str) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    answer = bell.ask(method, "/" + path.format(tenant), {"subject": "x"})
    assert answer.status == 404
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_a_program_that_likes_html_is_refused_in_json_all_the_same(bell: Bell, method: str) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    headers = {"Accept": "text/html"}
    answer = bell.ask(method, f"/{tenant}/emails/9", {"subject": "x"}, headers)
    assert answer.status == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_another_campaign_takes_the_figures_along(bell: Bell) -> None:
    tenant = fresh_tenant()
    email = bell.create(tenant, campaign="spring")
    bell.create(tenant, campaign="spring")
    bell.get(f"/{tenant}/pixel/{email}.gif")
    bell.get(f"/{tenant}/pixel/{email}.gif", User_Agent="curl/8.0")
    bell.get(f"/{tenant}/click/{email}?url=https://x.example/")
    assert figures(bell, tenant, "spring") == (2, 1, 1, 1, 1, 1)
    patch(bell, tenant, email, campaign="summer")
    assert figures(bell, tenant, "spring") == (1, 0, 0, 0, 0, 0)
    assert figures(bell, tenant, "summer") == (1, 1, 1, 1, 1, 1)
    bell.get(f"/{tenant}/pixel/{email}.gif")
    assert figures(bell, tenant, "summer") == (1, 2, 1, 1, 1, 1)
    patch(bell, tenant, email, campaign=None)
    assert figures(bell, tenant, "summer") == (0, 0, 0, 0, 0, 0)
    assert figures(bell, tenant) == (2, 2, 1, 1, 1, 1)


def test_a_deleted_email_is_gone_and_what_it_counted_for_stays(bell: Bell) -> None:
    tenant = fresh_tenant()
    email = bell.create(tenant, subject="secret", campaign="spring")
    bell.get(f"/{tenant}/pixel/{email}.gif")
    bell.get(f"/{tenant}/click/{email}?url=https://x.example/")
    before = figures(bell, tenant), figures(bell, tenant, "spring")
    answer = bell.ask("DELETE", f"/{tenant}/emails/{email}")
    assert (answer.status, answer.body) == (204, b"")
    assert (figures(bell, tenant), figures(bell, tenant, "spring")) == before
    for table in ("emails", "states", "events", "email_links"):
        query = f"SELECT count(*) FROM {table} JOIN tenants USING (tenant) WHERE name = ?"
        assert bell.rows(query, tenant) == [(0,)], table
    # Mail that is out goes on working, uncounted; the id is not used again.
    assert bell.get(f"/{tenant}/pixel/{email}.gif").headers["content-type"] == "image/gif"
    assert bell.get(f"/{tenant}/click/{email}?url=https://x.example/").status == 302
    assert (figures(bell, tenant), figures(bell, tenant, "spring")) == before
    assert bell.ask("DELETE", f"/{tenant}/emails/{email}").status == 404
    assert bell.create(tenant) == email + 1


def test_a_tenant_goes_only_where_its_name_is_said(bell: Bell) -> None:
    tenant = fresh_tenant()
    bell.create(tenant)
    for query in ("", "?confirm=", "?confirm=acme", f"?confirm={tenant}x"):
        answer = bell.ask("DELETE", f"/{tenant}{query}")
        assert answer.status == 400
        assert answer.json["field"] == "confirm"
        assert f"?confirm={tenant}" in answer.json["detail"]
    assert bell.rows("SELECT count(*) FROM tenants WHERE name = ?", tenant) == [(1,)]
    assert bell.ask("DELETE", "/nobody?confirm=nobody").status == 404


def test_nothing_of_a_deleted_tenant_stays_but_its_numbers(bell: Bell) -> None:
    tenant, other = fresh_tenant(), fresh_tenant()
    lines = "".join(json.dumps({"subject": f"s{n}", "campaign": "c"}) + "\n" for n in range(3000))
    headers = {"Content-Type": "application/x-ndjson"}
    assert bell.ask("POST", f"/{tenant}/emails", lines, headers).status == 201
    bell.create(other, campaign="c")
    for name in (tenant, other):
        bell.get(f"/{name}/pixel/1.gif")
        bell.get(f"/{name}/click/1?url=https://x.example/")
    assert bell.ask("DELETE", f"/{tenant}?confirm={tenant}").status == 204
    assert figures(bell, tenant) == (0, 0, 0, 0, 0, 0)
    assert figures(bell, other) == (1, 1, 0, 1, 1, 1)
    wait_until(lambda: bell.rows("SELECT count(*) FROM unfinished") == [(0,)])
    [(alive,)] = bell.rows("SELECT group_concat(tenant) FROM tenants")
    for (table,) in bell.rows("SELECT name FROM sqlite_schema WHERE type = 'table'"):
        query = f"SELECT count(*) FROM {table} WHERE tenant NOT IN ({alive})"
        assert bell.rows(query) == [(0,)], table
    assert bell.get(f"/{tenant}/click/1?url=https://x.example/").status == 302
    assert bell.create(tenant) == 3001
    assert figures(bell, tenant) == (1, 0, 0, 0, 0, 0)


def test_a_tenant_that_goes_in_the_tick_of_its_opens_takes_no_answer_along(bell: Bell) -> None:
    tenant = fresh_tenant()
    email = bell.create(tenant)
    target = f"/{tenant}?confirm={tenant}"
    with Line(bell.port) as line:
        open_ = raw_request(f"/{tenant}/pixel/{email}.gif")
        line.send(open_ + raw_request(target, method="DELETE"))
        assert [line.answer().status for _ in range(2)] == [200, 204]
    assert figures(bell, tenant) == (0, 0, 0, 0, 0, 0)


def test_many_changes_at_once_are_made_or_refused_whole(bell: Bell) -> None:
    tenant = fresh_tenant()
    for _ in range(40):
        bell.create(tenant, campaign="a")

    def change(email: int) -> int:
        while True:
            answer = patch(bell, tenant, email, campaign="b")
            if answer.status != 503:
                return answer.status
            assert answer.headers["retry-after"] == "1"

    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(change, range(1, 41))) == {200}
    assert figures(bell, tenant, "a")[0] == 0
    assert figures(bell, tenant, "b")[0] == 40


def test_the_test_email_opens_a_page(bell: Bell) -> None:
    tenant = fresh_tenant()
    answer = bell.ask("POST", f"/{tenant}/dashboard/try", "")
    assert answer.status == 303
    assert answer.headers["location"] == f"/{tenant}/dashboard/emails/1?try=1"
    for site in ("cross-site", "same-site"):
        headers = {"Sec-Fetch-Site": site}
        assert bell.ask("POST", f"/{tenant}/dashboard/try", "", headers).status == 403
    headers = {"Sec-Fetch-Site": "same-origin"}
    assert bell.ask("POST", f"/{tenant}/dashboard/try", "", headers).status == 303
    assert bell.rows("SELECT last_email FROM tenants WHERE name = ?", tenant) == [(2,)]


def test_a_tenants_name_alone_leads_to_its_dashboard(bell: Bell) -> None:
    answer = bell.get("/acme")
    assert (answer.status, answer.headers["location"]) == (302, "/acme/dashboard")
    assert bell.get("/favicon.ico").status == 404


def test_the_log_says_what_was_changed_and_by_whom(bell: Bell) -> None:
    tenant = fresh_tenant()
    bell.create(tenant, subject="secret")
    patch(bell, tenant, 1, subject="secret too")
    bell.ask("DELETE", f"/{tenant}/emails/1")
    bell.ask("DELETE", f"/{tenant}?confirm={tenant}")
    wait_until(lambda: "Tenant deleted" in bell.log_file.read_text())
    wait_until(lambda: len(lines_of(bell, tenant)) == 4)  # a line may come behind its answer
    lines = lines_of(bell, tenant)
    assert [line["message"] for line in lines] == [
        "Email created",
        "Email changed",
        "Email deleted",
        "Tenant deleted",
    ]
    assert {line["fields"]["ip_address"] for line in lines} == {"127.0.0.0"}
    assert "secret" not in bell.log_file.read_text()


def lines_of(bell: Bell, tenant: str) -> list[dict[str, Any]]:
    return [line for line in bell.lines() if line["fields"].get("tenant_id") == tenant]
