"""POST /{tenant}/emails"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bell import Bell, Line, dump, fresh_tenant, raw_request, serving


@pytest.fixture(scope="module")
def bell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    with serving(tmp_path_factory.mktemp("emails")) as bell:
        yield bell


def stored(bell: Bell, tenant: str) -> list[tuple[Any, ...]]:
    """What was kept of a tenant's emails: id, subject, recipient, campaign, metadata."""
    return bell.rows(
        "SELECT e.email, subject, recipient, c.name, metadata FROM tenants AS t "
        "JOIN emails AS e USING (tenant) JOIN states AS s USING (tenant, email) "
        "LEFT JOIN campaigns AS c ON c.tenant = t.tenant AND c.campaign = s.campaign "
        "WHERE t.name = ? ORDER BY e.email",
        tenant,
    )


def refused(bell: Bell, body: bytes, tenant: str = "stranger") -> Any:
    """Post a body that is refused with 400, as problem+json, and creates nothing."""
    before = dump(bell.database)
    answer = bell.ask("POST", f"/{tenant}/emails", body)
    assert answer.status == 400, answer
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json
    assert problem["status"] == 400
    assert problem["title"] == "Bad Request"
    assert isinstance(problem["detail"], str)
    assert problem["detail"]
    assert problem.get("type", "about:blank") == "about:blank"
    assert "Traceback" not in problem["detail"]
    assert dump(bell.database) == before, "a refused email left something behind"
    return problem


def test_it_works(bell: Bell) -> None:
    tenant = fresh_tenant()
    answer = bell.ask(
        "POST",
        f"/{tenant}/emails",
        {
            "subject": "Hello, wörld 😀",
            "recipient": "ada@example.com",
            "campaign": "spring",
            "metadata": {"order": "12", "naïve": "ja"},
        },
    )
    assert answer.status == 201
    assert answer.headers["content-type"] == "application/json"
    assert answer.json == {
        "email_id": 1,
        "tracking_pixel_url": f"http://localhost:{bell.port}/{tenant}/pixel/1.gif",
    }
    [(email, subject, recipient, campaign, metadata)] = stored(bell, tenant)
    assert (email, subject, recipient) == (1, "Hello, wörld 😀", "ada@example.com")
    assert campaign == "spring"
    assert json.loads(metadata) == {"order": "12", "naïve": "ja"}


def test_the_form_type_that_curl_sends_works(bell: Bell) -> None:
    tenant = fresh_tenant()
    answer = bell.ask(
        "POST",
        f"/{tenant}/emails",
        b'{"subject": "Hello"}',
        {"Content-Type": "application/x-www-form-urlencoded"},
    )
    assert answer.status == 201
    assert stored(bell, tenant) == [(1, "Hello", None, None, None)]


@pytest.mark.parametrize("kind", ["text/plain", "application/json; charset=utf-16", "x", ""])
def test_the_body_is_json_whatever_the_content_type_says(bell: Bell, kind: str) -> None:
    tenant = fresh_tenant()
    answer = bell.ask(
        "POST", f"/{tenant}/emails", '{"subject": "é"}'.encode(), {"Content-Type": kind}
    )
    assert answer.status == 201
    assert stored(bell, tenant) == [(1, "é", None, None, None)]


@pytest.mark.parametrize("body", [None, b"", b"{}", b" {\r\n}\t"])
def test_an_empty_body_is_an_empty_object(bell: Bell, body: bytes | None) -> None:
    tenant = fresh_tenant()
    assert bell.ask("POST", f"/{tenant}/emails", body).json["email_id"] == 1
    assert stored(bell, tenant) == [(1, None, None, None, None)]


def test_ids_count_per_tenant_from_1(bell: Bell) -> None:
    one, other = fresh_tenant(), fresh_tenant()
    assert [bell.create(one) for _ in range(3)] == [1, 2, 3]
    assert [bell.create(other), bell.create(one), bell.create(other)] == [1, 4, 2]


def test_ids_stay_in_order_when_pipelined(bell: Bell) -> None:
    tenant = fresh_tenant()
    with Line(bell.port) as line:
        line.send(raw_request(f"/{tenant}/emails", method="POST", body=b"{}") * 200)
        assert [line.answer().json["email_id"] for _ in range(200)] == list(range(1, 201))


def test_ids_go_on_after_a_restart(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell()
    assert [bell.create(), bell.create()] == [1, 2]
    assert bell.stop() == 0
    bell.start()
    assert bell.create() == 3


@pytest.mark.parametrize("name", ["subjet", "tenant", "email_id", "Subject", "", "a\nb", "é" * 500])
def test_unknown_fields_are_refused_by_name(bell: Bell, name: str) -> None:
    problem = refused(bell, json.dumps({"subject": "x", name: "y"}).encode())
    assert problem["field"] == name[: len(problem["field"])]
    assert bool(problem["field"]) == bool(name)


def test_an_unknown_field_of_half_a_character_is_refused(bell: Bell) -> None:
    refused(bell, b'{"\\ud800": "x"}')
    refused(bell, b'{"\\u0000": "x"}')


@pytest.mark.parametrize("field", ["subject", "recipient", "campaign"])
@pytest.mark.parametrize("value", ["1", "true", "[]", "{}", '["x"]', "1.5"])
def test_texts_are_strings(bell: Bell, field: str, value: str) -> None:
    assert refused(bell, f'{{"{field}": {value}}}'.encode())["field"] == field


@pytest.mark.parametrize("value", ["1", "true", '"x"', "[]", '[["a", "b"]]'])
def test_metadata_is_an_object(bell: Bell, value: str) -> None:
    assert refused(bell, f'{{"metadata": {value}}}'.encode())["field"] == "metadata"


@pytest.mark.parametrize("value", ["1", "true", "null", "[]", "{}", "1e999"])
def test_metadata_holds_strings(bell: Bell, value: str) -> None:
    field = refused(bell, f'{{"metadata": {{"ok": "x", "a": {value}}}}}'.encode())["field"]
    assert field.startswith("metadata")


@pytest.mark.parametrize("body", [b'"x"', b"1", b"true", b"null"])
def test_the_body_is_an_object(bell: Bell, body: bytes) -> None:
    refused(bell, body)


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"subject": "x"',
        b'{"subject": "x"}}',
        b'{"subject": "x"} {}',
        b"{'subject': 'x'}",
        b'{"subject": "x",}',
        b'{"subject": "x" /* no */}',
        b'{"subject": "a\nb"}',
        b"subject=Hello",
        b'{"subject": NaN}',
        b'{"subject": Infinity}',
        b'{"metadata": {"a": -Infinity}}',
        b'{"subject": ' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_no_json_is_refused(bell: Bell, body: bytes) -> None:
    refused(bell, body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"subject": "\xff"}',
        b'{"subject": "\xed\xa0\x80"}',
        b'{"subject": "\xc0\xaf"}',
        '{"subject": "x"}'.encode("utf-16"),
        b"\x1f\x8b\x08\x00",
        b"\x00",
    ],
)
def test_what_is_no_utf_8_is_refused(bell: Bell, body: bytes) -> None:
    refused(bell, body)


@pytest.mark.parametrize("opening", [b"[", b'{"metadata":', b'{"subject":['])
def test_deep_nesting_is_refused(bell: Bell, opening: bytes) -> None:
    refused(bell, opening * (60_000 // len(opening)))


def test_a_hundred_thousand_brackets_are_refused(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell(MAX_BODY_BYTES=str(1 << 20))
    refused(bell, b"[" * 100_000)
    refused(bell, b"[" * 100_000 + b"]" * 100_000)
    refused(bell, b'{"metadata": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001)
    assert bell.create() == 1


def test_half_characters_are_replaced(bell: Bell) -> None:
    tenant = fresh_tenant()
    body = rb'{"subject": "a\ud800b", "recipient": "\udc00", "metadata": {"\udfff": "\ud83d"}}'
    assert bell.ask("POST", f"/{tenant}/emails", body).status == 201
    body = rb'{"subject": "\ud83d\ude00"}'  # two halves that make a whole
    assert bell.ask("POST", f"/{tenant}/emails", body).status == 201
    first, second = stored(bell, tenant)
    assert first[1:3] == ("a\ufffdb", "\ufffd")
    assert json.loads(first[4]) == {"\ufffd": "\ufffd"}
    assert second[1] == "😀"


@pytest.mark.parametrize(
    "body",
    [
        rb'{"subject": "a\u0000b"}',
        rb'{"recipient": "\u0000"}',
        rb'{"campaign": "x\u0000"}',
        rb'{"metadata": {"a": "\u0000"}}',
        rb'{"metadata": {"\u0000": "a"}}',
    ],
)
def test_no_nul_is_stored(bell: Bell, body: bytes) -> None:
    tenant = fresh_tenant()
    answer = bell.ask("POST", f"/{tenant}/emails", body)
    assert answer.status in (201, 400)
    for row in stored(bell, tenant):
        assert not any("\0" in str(text) or "\\u0000" in str(text) for text in row)


def test_of_duplicate_keys_one_is_taken_or_none(bell: Bell) -> None:
    tenant = fresh_tenant()
    answer = bell.ask("POST", f"/{tenant}/emails", b'{"subject": "a", "subject": "b"}')
    assert answer.status in (201, 400)
    expected = [["a"], ["b"]] if answer.status == 201 else [[]]
    assert [row[1] for row in stored(bell, tenant)] in expected


def test_null_is_like_a_field_left_out(bell: Bell) -> None:
    tenant = fresh_tenant()
    body = b'{"subject": null, "recipient": null, "campaign": null, "metadata": null}'
    assert bell.ask("POST", f"/{tenant}/emails", body).status == 201
    assert stored(bell, tenant) == [(1, None, None, None, None)]


def test_a_subject_as_long_as_a_header_line_is_kept_whole(bell: Bell) -> None:
    tenant = fresh_tenant()
    bell.create(tenant, subject="s" * 998)  # RFC 5322 2.1.1
    assert stored(bell, tenant)[0][1] == "s" * 998


@pytest.mark.parametrize("field", ["subject", "recipient", "campaign"])
def test_texts_are_bounded(bell: Bell, field: str) -> None:
    assert refused(bell, json.dumps({field: "x" * 60_000}).encode())["field"] == field


def test_metadata_is_bounded(bell: Bell) -> None:
    many = {str(n): "x" for n in range(5000)}
    for metadata in (many, {"k" * 60_000: "x"}, {"k": "x" * 60_000}):
        problem = refused(bell, json.dumps({"metadata": metadata}).encode())
        assert problem["field"].startswith("metadata")
        assert len(problem["detail"]) < 1000


def test_too_large_a_body(bell: Bell) -> None:
    before = dump(bell.database)
    with Line(bell.port) as line:
        line.send(raw_request("/stranger/emails", method="POST", body=b" " * 65_537))
        answer = line.answer()
        assert answer.status == 413
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json["status"] == 413
        assert line.closed
    assert dump(bell.database) == before


def test_the_largest_body(bell: Bell) -> None:
    tenant = fresh_tenant()
    body = b'{"subject": "x"}'.ljust(65_536)
    assert bell.ask("POST", f"/{tenant}/emails", body).status == 201
    assert bell.ask("POST", f"/{tenant}/emails", body + b" ").status == 413


def test_too_large_a_body_in_chunks(bell: Bell) -> None:
    before = dump(bell.database)
    with Line(bell.port) as line:
        line.send(raw_request("/x/emails", "Transfer-Encoding: chunked", method="POST"))
        line.send((b"1000\r\n" + b" " * 4096 + b"\r\n") * 17)
        assert line.answer().status == 413
        assert line.closed
    assert dump(bell.database) == before


def test_a_chunked_body(bell: Bell) -> None:
    tenant = fresh_tenant()
    with Line(bell.port) as line:
        line.send(raw_request(f"/{tenant}/emails", "Transfer-Encoding: chunked", method="POST"))
        line.send(b'4\r\n{"su\r\n00A;x=y\r\nbject": "H\r\n7\r\nello"}\n\r\n0\r\nX-End: 1\r\n\r\n')
        assert line.answer().status == 201
    assert stored(bell, tenant) == [(1, "Hello", None, None, None)]


@pytest.mark.parametrize("name", ["a", "Z", "9", "a-", "a_", "0-_-_", "a" * 64, "health", "A-b_C9"])
def test_names_of_tenants(bell: Bell, name: str) -> None:
    answer = bell.ask("POST", f"/{name}/emails", {})
    assert answer.status == 201
    assert answer.json["tracking_pixel_url"].endswith(f"/{name}/pixel/1.gif")
    assert bell.get(f"/{name}/pixel/1.gif").status == 200
    assert bell.rows("SELECT count(*) FROM tenants WHERE name = ?", name) == [(1,)]


@pytest.mark.parametrize(
    "name",
    [
        "-",
        "-a",
        "_",
        "_a",
        "a" * 65,
        "a.b",
        "a%20b",
        "%C3%A4",
        "a%00",
        "a~",
        "..",
        ".",
        "",
        "%61",
        "a%2Fb",
        "a,b",
        "a:b",
        "a@b",
        "a*",
        "a%0A",
        "%D9%A1",
    ],
)
def test_what_is_no_name_of_a_tenant(bell: Bell, name: str) -> None:
    before = dump(bell.database)
    answer = bell.ask("POST", f"/{name}/emails", {"subject": "x"})
    assert 400 <= answer.status < 500
    assert dump(bell.database) == before


def test_a_tenants_name_keeps_its_case(bell: Bell) -> None:
    name = fresh_tenant()
    assert bell.create(name) == 1
    assert bell.create(name.upper()) == 1
    assert bell.create(name) == 2


def test_base_url_with_a_prefix(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell(BASE_URL="https://track.example.com/bell/")
    urls = [
        bell.ask("POST", path, {}).json["tracking_pixel_url"]
        for path in ("/acme/emails", "/bell/acme/emails")
    ]
    assert urls == [f"https://track.example.com/bell/acme/pixel/{n}.gif" for n in (1, 2)]
    bell.get("/bell/acme/pixel/1.gif")
    bell.get("/acme/pixel/2.gif")  # a proxy that cuts the prefix off
    assert bell.rows("SELECT email FROM events ORDER BY seq") == [(1,), (2,)]


def test_a_tenant_named_like_the_prefix(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell(BASE_URL="http://localhost/bell")
    for path in ("/bell/emails", "/bell/bell/emails"):
        assert bell.ask("POST", path, {}).status == 201
    assert bell.rows("SELECT name, last_email FROM tenants") == [("bell", 2)]


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_wrong_method(bell: Bell, method: str) -> None:
    answer = bell.ask(method, "/acme/emails")
    assert answer.status == 405
    assert {"GET", "HEAD", "OPTIONS", "POST"} == set(answer.headers["allow"].split(", "))


def test_log_line(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell()
    answer = bell.ask(
        "POST",
        "/company_a/emails",
        {"subject": "secret", "recipient": "ada@example.com"},
        {"X-Forwarded-For": "192.168.1.77"},
    )
    bell.stop()
    [line] = [line for line in bell.lines() if line["fields"].get("tenant_id") == "company_a"]
    assert set(line) == {"timestamp", "level", "message", "fields"}
    assert line["level"] == "INFO"
    assert "created" in line["message"]
    assert line["fields"] == {
        "tenant_id": "company_a",
        "email_id": answer.json["email_id"],
        "ip_address": "192.168.1.0",
    }
    assert b"ada@" not in bell.log_file.read_bytes()
