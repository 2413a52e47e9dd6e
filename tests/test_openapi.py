"""GET /openapi.json: the document is right, it says what the code says, and a real server does what
it says, whatever Schemathesis asks (https://schemathesis.readthedocs.io)."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from schemathesis.core.failures import FailureGroup

import signatures
from bell import BROWSER, Answer, Bell, serving
from little_bell import __version__
from little_bell.api import batches, emails, exports, parameters, reads
from little_bell.errors import StoreError
from little_bell.mail import report
from little_bell.mail.options import MAX_PLACEHOLDER
from little_bell.ops.health import Health
from little_bell.ops.logs import Log
from little_bell.ops.metrics import Counters
from little_bell.reports import cursors, period
from little_bell.store.blocks import MAX_BLOCKS
from little_bell.store.checkpoint import Checkpointer
from little_bell.store.recorder import Recorder
from little_bell.store.sums import Figures
from little_bell.store.writer import Writer
from little_bell.tracking import hit, links, rules
from little_bell.tracking.clients import CLIENTS, DEVICES
from little_bell.values import is_tenant
from little_bell.wire import mailroom
from little_bell.wire.http import MAX_HEAD, MAX_HEADERS, REASON_PHRASES
from little_bell.wire.routes import PUBLIC, ROUTES, WRITE

HERE = Path(__file__).parent
FILE = Path(emails.__file__).with_name("openapi.json")
FOR_PROGRAMS_TOO = (
    "pixel",
    "click",
    "signed_pixel",
    "signed_click",
    "tenant",
)  # though what they refuse is said in pages
METHODS = ("get", "post", "patch", "delete")
KEY = "a-key-that-signs-links-in-tests"
SETTINGS = {"INSTANT_SECONDS": "0", "CORS_ORIGINS": "https://app.example"}
TOKEN = signatures.token(KEY.encode(), "acme", 1, "https://example.com/")
NDJSON = {"Content-Type": "application/x-ndjson"}
MAIL = {"Content-Type": "message/rfc822"}
JSON = {"Accept": "application/json"}
MESSAGE = b"Content-Type: text/html\n\n<a href=https://a.example>x</a> <a href='#'>y</a>"
BEN = "ben@example.com"


@pytest.fixture(scope="module")
def bell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    """A server that has something of everything to tell."""
    folder = tmp_path_factory.mktemp("openapi")
    with serving(folder, SECRET_KEY=KEY, **SETTINGS) as bell:
        bell.create(subject="One", recipient="ada@example.com", campaign="spring")
        bell.create(metadata={"a": "b"})
        for agent in (BROWSER, "Mozilla/5.0", "curl/8.0", "", "something else"):
            bell.get("/acme/pixel/1.gif", User_Agent=agent)
            bell.get("/acme/click/1?url=https://example.com/", User_Agent=agent)
            bell.get("/acme/pixel/1.gif", User_Agent=agent, Sec_GPC="1")
        bell.create("other", recipient=BEN)
        bell.create("gone")
        bell.ask("DELETE", "/gone/emails/1")
        bell.get("/gone/pixel/1.gif")
        yield bell


@cache
def document() -> Any:
    return json.loads(FILE.read_bytes())


def at(path: str) -> Any:
    """What stands at a path of names in the document, references followed."""
    found = document()
    for name in path.split():
        found = found[int(name)] if isinstance(found, list) else found[name]
        if isinstance(found, dict) and "$ref" in found:
            found = at(found["$ref"].removeprefix("#/").replace("/", " "))
    return found


def operations() -> Iterator[tuple[str, str, Any]]:
    """(method, path, operation), in small letters."""
    for path, item in document()["paths"].items():
        for method in METHODS:
            if method in item:
                yield method, path, item[method]


def operation(name: str) -> Any:
    return next(found for *_, found in operations() if found["operationId"] == name)


def parameter(name: str, of: str) -> Any:
    """The schema of an operation's parameter; both references followed."""
    item = next(
        item
        for item in document()["paths"].values()
        for method in METHODS
        if item.get(method, {}).get("operationId") == of
    )
    for one in (*item.get("parameters", ()), *operation(of).get("parameters", ())):
        found = resolve(one)
        if found["name"] == name:
            return resolve(found["schema"])
    raise AssertionError(f"{of} has no {name}")


def resolve(value: Any) -> Any:
    while isinstance(value, dict) and "$ref" in value:
        value = at(value["$ref"].removeprefix("#/").replace("/", " "))
    return value


def every(value: object) -> Iterator[dict[str, Any]]:
    """Every object in the document."""
    if isinstance(value, dict):
        yield value
        for one in value.values():
            yield from every(one)
    elif isinstance(value, list):
        for one in value:
            yield from every(one)


def wrong(schema: Any, value: object) -> list[str]:
    """What is wrong with a value by a schema of the document."""
    whole = {"allOf": [schema], "components": document()["components"]}
    validator = jsonschema_rs.Draft202012Validator(whole, validate_formats=True)
    return [f"{error.instance_path}: {error.message}" for error in validator.iter_errors(value)]


# The document is served


def test_it_works(bell: Bell) -> None:
    answer = bell.get("/openapi.json", Origin="https://app.example")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    served = answer.json
    assert served["servers"] == [{"url": f"http://localhost:{bell.port}"}]
    assert served["info"]["version"] == __version__
    filled_in = {"servers": served["servers"], "info": served["info"]}
    assert served == {**document(), **filled_in}
    tag = answer.headers["etag"]
    assert bell.get("/openapi.json", If_None_Match=tag).status == 304
    packed = bell.get("/openapi.json", Accept_Encoding="gzip")
    assert packed.headers["content-encoding"] == "gzip"


def test_its_server_is_base_url(tmp_path: Path) -> None:
    with serving(tmp_path, BASE_URL="https://track.example.com/bell") as bell:
        for path in ("/openapi.json", "/bell/openapi.json"):
            assert bell.get(path).json["servers"] == [{"url": "https://track.example.com/bell"}]


# The document is right in itself


def test_it_is_openapi() -> None:
    document_of(document()).validate()


def document_of(value: Any) -> Any:
    return schemathesis.openapi.from_dict(json.loads(json.dumps(value)))


def test_its_schemas_are_json_schema() -> None:
    found = [one["schema"] for one in every(document()) if "schema" in one]
    for schema in (*found, *document()["components"]["schemas"].values()):
        jsonschema_rs.meta.validate(
            {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
        )


def test_what_is_referred_to_is_there_and_all_that_is_there_is_referred_to() -> None:
    used = {one["$ref"] for one in every(document()) if isinstance(one.get("$ref"), str)}
    for reference in used:
        assert resolve({"$ref": reference})
    parts = {
        f"#/components/{kind}/{name}"
        for kind, items in document()["components"].items()
        for name in items
        if kind != "securitySchemes"  # these are named by `security`
    }
    assert parts <= used
    named = {name for one in document()["security"] for name in one}
    assert named == set(document()["components"]["securitySchemes"])
    tags = {tag["name"] for tag in document()["tags"]}
    assert {tag for *_, found in operations() for tag in found["tags"]} == tags


def test_each_operation_has_a_name_a_summary_and_its_path() -> None:
    names = [found["operationId"] for *_, found in operations()]
    assert len(set(names)) == len(names)
    for _, path, found in operations():
        assert found["summary"]
        shared = document()["paths"][path].get("parameters", [])
        given = [resolve(one) for one in (*shared, *found.get("parameters", ()))]
        in_path = [one["name"] for one in given if one["in"] == "path"]
        assert sorted(in_path) == sorted(re.findall(r"\{(\w+)\}", path))
    linked = [link["operationId"] for one in every(document()) for link in links_of(one)]
    assert set(linked) <= set(names)
    assert len(linked) > 5


def links_of(value: dict[str, Any]) -> list[dict[str, Any]]:
    found = value.get("links")
    return list(found.values()) if isinstance(found, dict) and "description" in value else []


def test_examples_are_examples() -> None:
    count = 0
    for one in every(document()):
        if "schema" not in one:
            continue
        examples = [value["value"] for value in one.get("examples", {}).values()]
        for example in (*examples, *([one["example"]] if "example" in one else ())):
            assert wrong(one["schema"], example) == []
            count += 1
    assert count > 30


def test_objects_are_described_to_the_last_member() -> None:
    for one in every(document()["components"]):
        types = one.get("type")
        if types == "object" or (isinstance(types, list) and "object" in types):
            assert "additionalProperties" in one, one


# It says what the code says


def test_it_has_each_route_for_programs_and_no_other() -> None:
    routes = {
        (route.method, route.pattern)
        for route in ROUTES
        if not route.page or route.name in FOR_PROGRAMS_TOO
    }
    assert {(method.upper(), path) for method, path, _ in operations()} == routes


def test_it_says_which_routes_need_a_key() -> None:
    access = {(route.method.lower(), route.pattern): route.access for route in ROUTES}
    for method, path, found in operations():
        needed = access[method, path]
        statuses = set(found["responses"]) & {"401", "403", "429"}
        if needed == PUBLIC:
            assert found["security"] == [], path
            limited = path in ("/{tenant}/optouts", "/openapi.json")
            assert statuses == ({"429"} if limited else set()), path
        else:
            assert {} in found.get("security", document()["security"]), path
            assert statuses == {"401", "429"} | ({"403"} if needed == WRITE else set()), path


TEXTS = "components schemas NewEmail properties"
LISTS = "paths /{tenant}/emails post requestBody content application/json schema oneOf 1"
LINES = "paths /{tenant}/emails post requestBody content application/x-ndjson schema"


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        *[(f"{TEXTS} {name} maxLength", limit) for name, limit in emails.MAX_TEXT.items()],
        *[
            (f"components schemas Email properties {name} maxLength", limit)
            for name, limit in emails.MAX_TEXT.items()
        ],
        (f"{TEXTS} metadata maxProperties", emails.MAX_METADATA),
        (f"{TEXTS} metadata propertyNames maxLength", emails.MAX_NAME),
        (f"{TEXTS} metadata additionalProperties maxLength", emails.MAX_VALUE),
        ("components schemas StoredMetadata maxProperties", emails.MAX_METADATA),
        ("components schemas StoredMetadata propertyNames maxLength", emails.MAX_NAME),
        ("components schemas StoredMetadata additionalProperties maxLength", emails.MAX_VALUE),
        ("components schemas Campaign properties campaign maxLength", emails.MAX_TEXT["campaign"]),
        (f"{LISTS} maxItems", batches.MAX_LIST),
        (f"{LINES} maxItems", batches.MAX_LINES),
        ("components parameters Recipient schema maxLength", emails.MAX_TEXT["recipient"]),
        ("components schemas Id maximum", reads.MAX_ID),
        ("components schemas Target maxLength", links.MAX_URL),
        ("components schemas ClickUrl properties original_url maxLength", links.MAX_URL),
        ("components schemas Event properties url maxLength", links.MAX_URL),
        ("components schemas Event properties user_agent maxLength", hit.MAX_USER_AGENT),
        ("components parameters Limit schema maximum", parameters.MAX_LIMIT),
        ("components parameters Limit schema default", parameters.LIMIT),
        ("components parameters Cursor schema maxLength", cursors.MAX_TEXT),
        ("components schemas EmailPage properties emails maxItems", parameters.MAX_LIMIT),
        ("components schemas EventPage properties events maxItems", parameters.MAX_LIMIT),
        ("components schemas EmailWithEvents properties events maxItems", parameters.MAX_LIMIT),
        ("components schemas LinkPage properties links maxItems", parameters.MAX_LIMIT),
        ("components schemas CampaignPage properties campaigns maxItems", parameters.MAX_LIMIT),
        ("components schemas ClientList properties clients maxItems", reads.MAX_TOP),
        ("components schemas Stats properties series maxItems", period.MAX_INTERVALS),
        ("components schemas BlockPage properties blocks maxItems", parameters.MAX_LIMIT),
        ("components schemas Block properties url maxLength", links.MAX_URL),
    ],
)
def test_limits_are_those_of_the_code(path: str, limit: int) -> None:
    assert at(path) == limit


def test_parameters_have_the_limits_of_the_code() -> None:
    key = parameter("Idempotency-Key", "createEmails")
    assert (key["minLength"], key["maxLength"]) == (1, emails.MAX_KEY)
    limit = parameter("limit", "listClients")
    assert (limit["maximum"], limit["default"]) == (reads.MAX_TOP, parameters.LIMIT)
    after = parameter("after", "listEvents")
    assert (after["minimum"], after["maximum"]) == (0, reads.MAX_ID)
    assert hit.MAX_ID_DIGITS == parameters.MAX_NUMBER
    for year in range(period.FIRST_YEAR - 2, period.LAST_YEAR + 3):
        good = period.FIRST_YEAR <= year <= period.LAST_YEAR
        assert (wrong(ref("schemas", "Moment"), f"{year}-05-17") == []) is good


def test_words_have_the_limits_of_the_code() -> None:
    text = operation("createEmails")["description"]
    for number in (batches.MAX_LINES, batches.MAX_LIST, batches.MAX_CAMPAIGNS):
        assert f"{number:,} " in text
    assert f"{batches.MAX_LIST_BYTES >> 20} MiB" in text
    assert f"{batches.MAX_LINE >> 20} MiB" in text
    for kind in emails.NDJSON_TYPES[1:]:
        assert f"`{kind.decode()}`" in text
    assert f"At most {MAX_BLOCKS:,} " in operation("createBlock")["description"]
    head = at("components responses HeadTooLarge description")
    assert f"{MAX_HEAD >> 10} KiB" in head
    assert f"{MAX_HEADERS} headers" in head
    for name in ("listLinks", "listCampaigns"):
        [order] = [p for p in operation(name)["parameters"] if p.get("name") == "order"]
        assert f"at most {reads.MAX_TOP}" in order["description"]


@pytest.mark.parametrize(
    "name", ["acme", "a", "A_-9", "health", "metrics", "Health", "_a", "", "é"]
)
def test_a_tenants_name(name: str) -> None:
    good = wrong(ref("schemas", "TenantName"), name) == []
    assert good is is_tenant(name.encode("utf-8"))


def test_tenants_whose_address_is_another_routes_are_named() -> None:
    taken = {route.pattern[1:] for route in ROUTES if route.pattern.count("/") == 1}
    names = {name for name in taken if is_tenant(name.encode("ascii"))}
    assert names == {"health", "metrics"}
    assert "`health` or `metrics`" in operation("deleteTenant")["description"]


def test_enums_are_those_of_the_code() -> None:
    event = at("components schemas Event properties")
    kinds = list(hit.KINDS[: hit.CLICK + 1])
    agents = {rule.agent for rule in (*rules.RULES, rules.FALLBACK)} | {"generic"}
    assert event["kind"]["enum"] == kinds
    assert event["class"]["enum"] == list(rules.CLASSES)
    assert set(event["agent"]["enum"]) == agents | {None}
    assert event["reasons"]["items"]["enum"] == [code for code, _ in rules.REASONS]
    assert event["client"]["enum"] == [*(code for code, _ in CLIENTS), None]
    assert event["device"]["enum"] == [*DEVICES, None]
    client = at("components schemas Client properties")
    assert client["client"]["enum"] == [code for code, _ in CLIENTS]
    assert client["device"]["enum"] == list(DEVICES)
    skipped = at("components schemas Report properties skipped items properties")
    assert skipped["reason"]["enum"] == list(report.REASONS)
    options = at("components schemas RewritingOptions properties")
    assert set(options) == set(report.Options._fields)
    assert options["pixel"]["enum"] == list(report.PIXEL_PLACES)
    assert options["placeholder"]["maxLength"] == MAX_PLACEHOLDER
    for name in mailroom.PARAMETERS:
        assert parameter(name, "trackMessage")
    assert parameter("kind", "listEvents")["enum"] == kinds
    assert parameter("class", "listEvents")["enum"] == list(rules.CLASSES)
    assert parameter("interval", "readStats")["enum"] == list(period.INTERVALS)
    assert at("components schemas Stats properties interval enum") == [*period.INTERVALS, None]
    assert set(Figures._fields) < set(at("components schemas Figures properties"))


def test_columns_of_exports_are_those_of_the_code() -> None:
    for name, columns in (
        ("exportEventsAsCsv", exports.EVENT_COLUMNS),
        ("exportEmailsAsCsv", exports.EMAIL_COLUMNS),
    ):
        content = operation(name)["responses"]["200"]["content"]["text/csv"]
        assert content["example"] == ",".join(columns) + "\r\n"
    assert tuple(at("components schemas Event properties")) == exports.EVENT_COLUMNS
    assert tuple(at("components schemas Email properties")) == exports.EMAIL_COLUMNS


def test_answers_are_those_that_the_server_has_words_for() -> None:
    for _, path, found in operations():
        for status in found["responses"]:
            assert int(status) in REASON_PHRASES, path
    for name, one in document()["components"]["responses"].items():
        example = one.get("content", {}).get("application/problem+json", {}).get("example")
        if example is not None:
            assert example["title"] == REASON_PHRASES[example["status"]]
            places = {
                s
                for *_, o in operations()
                for s, r in o["responses"].items()
                if r == ref("responses", name)
            }
            assert places == {str(example["status"])}


def ref(kind: str, name: str) -> dict[str, str]:
    return {"$ref": f"#/components/{kind}/{name}"}


# A real server does what it says

ANSWERS: tuple[tuple[str, str, bytes | None, dict[str, str], int], ...] = (
    ("createEmails", "POST /acme/emails", b"{}", {}, 201),
    ("createEmails", "POST /acme/emails", b'[{"subject": "x"}, {}]', {}, 201),
    ("createEmails", "POST /acme/emails", b'{"subject": "x"}\n{}\n', NDJSON, 201),
    ("createEmails", "POST /acme/emails", b'{"html": "<a href=https://a.example>x</a>"}', {}, 201),
    ("createEmails", "POST /acme/emails?dry_run=1", b'{"html": "<p>", "text": "x"}', {}, 200),
    ("createEmails", "POST /acme/emails?dry_run=1", b"{}", {}, 200),
    ("createEmails", "POST /acme/emails?dry_run=x", b"{}", {}, 400),
    ("createEmails", "POST /acme/emails", b'[{"html": ""}]', {}, 400),
    ("trackMessage", "POST /acme/messages", MESSAGE, MAIL, 201),
    ("trackMessage", "POST /acme/messages", MESSAGE, {**MAIL, **JSON}, 201),
    ("trackMessage", "POST /acme/messages?dry_run=1&pixel=top", MESSAGE, {**MAIL, **JSON}, 200),
    (
        "trackMessage",
        "POST /acme/messages",
        b"X-Little-Bell: track=none\n\n",
        {**MAIL, **JSON},
        200,
    ),
    ("trackMessage", "POST /acme/messages", MESSAGE, JSON, 415),
    ("trackMessage", "POST /acme/messages?x=1", MESSAGE, MAIL, 400),
    ("createEmails", "POST /acme/emails", b"", NDJSON, 400),
    ("createEmails", "POST /acme/emails", b"{}\n[]\n", NDJSON, 400),
    ("createEmails", "POST /acme/emails", b'[{}, {"subject": 1}]', {}, 400),
    ("createEmails", "POST /acme/emails", b'{"to": "x"}', {"Accept": "text/html"}, 400),
    ("createEmails", "POST /_/emails", b"{}", {}, 404),
    ("createEmails", "POST /acme/emails", b"{}", {"Expect": "no"}, 417),
    ("createEmails", "POST /acme/emails", b" " * 70_000, {}, 413),
    ("createEmails", "POST /acme/emails", b"{}", {"Idempotency-Key": "k"}, 201),
    ("createEmails", "POST /acme/emails", b"[{}]", {"Idempotency-Key": "k"}, 422),
    ("listEmails", "GET /acme/emails?limit=2", None, {}, 200),
    ("listEmails", "GET /acme/emails", None, {"If-None-Match": "*"}, 304),
    ("listEmails", "GET /acme/emails?a=b", None, {}, 400),
    ("listEmails", "GET /acme/emails", None, {"X": "y" * 17_000}, 431),
    ("readEmail", "GET /acme/emails/1", None, {}, 200),
    ("readEmail", "GET /acme/emails/2", None, {}, 200),
    ("readEmail", "GET /acme/emails/999", None, {}, 404),
    ("changeEmail", "PATCH /acme/emails/2", b'{"campaign": null}', {}, 200),
    ("changeEmail", "PATCH /acme/emails/2", b"{}", {}, 400),
    ("changeEmail", "PATCH /acme/emails/999", b'{"subject": "x"}', {"Accept": "text/html"}, 404),
    ("deleteEmail", "DELETE /acme/emails/3", None, {}, 204),
    ("deleteEmail", "DELETE /acme/emails/999", None, {"Accept": "text/html"}, 404),
    ("createBlock", "POST /acme/blocks", b'{"email": 2}', {}, 201),
    ("createBlock", "POST /acme/blocks", b'{"email": 2}', {}, 200),
    ("createBlock", "POST /acme/blocks", b'{"url": "HTTP://X.example"}', {}, 201),
    ("createBlock", "POST /gone/blocks", b'{"tenant": true}', {}, 201),
    ("createBlock", "POST /acme/blocks", b'{"url": "x"}', {}, 400),
    ("createBlock", "POST /acme/blocks", b'{"email": 999}', {}, 404),
    ("listBlocks", "GET /acme/blocks?limit=1", None, {}, 200),
    ("listBlocks", "GET /acme/blocks?a=b", None, {}, 400),
    ("followLink", "GET /acme/click/1?url=http://x.example", None, {}, 410),
    ("deleteBlock", "DELETE /acme/blocks/2", None, {}, 204),
    ("deleteBlock", "DELETE /acme/blocks/2", None, {}, 404),
    ("openDashboard", "GET /acme", None, {}, 302),
    ("openDashboard", "GET /_", None, {}, 404),
    ("deleteTenant", "DELETE /gone", None, {}, 400),
    ("deleteTenant", "DELETE /gone?confirm=gone", None, {}, 204),
    ("deleteTenant", "DELETE /nobody?confirm=nobody", None, {}, 404),
    ("readStats", "GET /acme/stats", None, {}, 200),
    ("readStats", "GET /acme/stats?interval=day&tz=Asia/Kathmandu&campaign=spring", None, {}, 200),
    ("readStats", "GET /acme/stats?interval=day&from=2099-01-01", None, {}, 200),
    ("readStats", "GET /acme/stats?campaign=none", None, {}, 404),
    ("listLinks", "GET /acme/links", None, {}, 200),
    ("listLinks", "GET /acme/links?order=top&from=2026-01-01", None, {}, 200),
    ("listCampaigns", "GET /acme/campaigns", None, {}, 200),
    ("listCampaigns", "GET /acme/campaigns?order=top", None, {}, 200),
    ("listClients", "GET /acme/clients", None, {}, 200),
    ("listClients", "GET /acme/clients?limit=101", None, {}, 400),
    ("listEvents", "GET /acme/events", None, {}, 200),
    ("listEvents", "GET /acme/events?after=0&limit=1", None, {}, 200),
    ("listEvents", "GET /nobody/events", None, {}, 404),
    ("exportRecipient", "GET /acme/recipients/ada@example.com", None, {}, 200),
    ("exportRecipient", "GET /acme/recipients/nobody@example.com", None, {}, 404),
    ("exportRecipient", "GET /acme/recipients/%00", None, {}, 400),
    ("eraseRecipient", "DELETE /acme/recipients/ben@example.com", None, {}, 400),
    ("eraseRecipient", "DELETE /acme/recipients/a@b.c?confirm=a@b.c", None, {}, 404),
    ("eraseRecipient", f"DELETE /other/recipients/{BEN}?confirm={BEN}", None, {}, 204),
    ("exportEventsAsCsv", "GET /acme/events.csv?kind=open", None, {}, 200),
    ("exportEventsAsCsv", "GET /acme/events.csv?kind=x", None, {}, 400),
    ("exportEventsAsNdjson", "GET /acme/events.ndjson", None, {}, 200),
    ("exportEventsAsNdjson", "GET /acme/events.ndjson?after=999", None, {}, 200),
    ("exportEmailsAsCsv", "GET /acme/emails.csv", None, {}, 200),
    ("exportEmailsAsCsv", "GET /nobody/emails.csv", None, {}, 404),
    ("fetchPixel", "GET /acme/pixel/1.gif", None, {}, 200),
    ("fetchPixel", "GET /acme/pixel/no", None, {}, 200),
    ("fetchSignedPixel", "GET /acme/o/1/AAAAAAAAAAAAAAAA.gif", None, {}, 200),
    ("followLink", "GET /acme/click/1?url=https://example.com", None, {}, 302),
    ("followLink", "GET /acme/click/1+?url=https://example.com", None, {}, 200),
    ("followLink", "GET /acme/click/1?url=x", None, {}, 400),
    ("followLink", "GET /acme/click/1?url=http://x.example", None, {"Host": "a b"}, 400),
    ("followLink", "GET /acme/click/999?url=http://x.example", None, {}, 404),
    ("followSignedLink", f"GET /acme/l/1/{TOKEN}", None, {}, 302),
    ("followSignedLink", f"GET /acme/l/1/{TOKEN}+", None, {}, 200),
    ("followSignedLink", "GET /acme/l/1/AAAA", None, {}, 404),
    ("makeClickUrl", "GET /acme/click-url/1?url=http://x.example", None, {}, 200),
    ("makeClickUrl", "GET /acme/click-url/1?url=http://x.example&label=x&part=y", None, {}, 200),
    ("makeClickUrl", "GET /acme/click-url/1?url=http://x.example&label=%00", None, {}, 400),
    ("makeClickUrl", "GET /acme/click-url/1", None, {}, 400),
    ("makeClickUrl", "GET /acme/click-url/999?url=http://x.example", None, {}, 404),
    ("readSettings", "GET /acme/settings", None, {}, 200),
    ("readSettings", "GET /nobody/settings", None, {}, 404),
    ("changeSettings", "PATCH /acme/settings", b'{"hosts": ["*.example.com"]}', {}, 200),
    ("changeSettings", "PATCH /acme/settings", b'{"consent": "yes"}', {}, 400),
    ("optOut", "POST /acme/optouts", b"recipient=bob@example.com", {}, 204),
    ("optOut", "POST /acme/optouts", b'{"recipient": "eve@example.com"}', {}, 204),
    ("optOut", "POST /acme/optouts", b"", {}, 400),
    ("readOptOut", "GET /acme/optouts/bob@example.com", None, {}, 200),
    ("readOptOut", "GET /acme/optouts/carol@example.com", None, {}, 200),
    ("readOptOut", "GET /nobody/optouts/bob@example.com", None, {}, 404),
    ("optIn", "DELETE /acme/optouts/bob@example.com", None, {}, 204),
    ("optIn", "DELETE /_/optouts/bob@example.com", None, {}, 404),
    ("readGpc", "GET /.well-known/gpc.json", None, {}, 200),
    ("readHealth", "GET /health", None, {}, 200),
    ("readMetrics", "GET /metrics", None, {}, 200),
    ("readMetrics", "GET /metrics", None, {"Accept": "application/json"}, 200),
    ("readDocument", "GET /openapi.json", None, {}, 200),
    ("readDocument", "GET /openapi.json", None, {"If-None-Match": "*"}, 304),
)


@pytest.mark.parametrize(("name", "request_line", "body", "headers", "status"), ANSWERS)
def test_every_member_of_an_answer_is_described(
    bell: Bell,
    name: str,
    request_line: str,
    body: bytes | None,
    headers: dict[str, str],
    status: int,
) -> None:
    method, target = request_line.split()
    answer = bell.ask(method, target, body, {"User-Agent": BROWSER, **headers})
    assert answer.status == status, answer
    described(name, answer)


def described(name: str, answer: Answer) -> None:
    """Fails where an answer is not as the document says."""
    response = resolve(operation(name)["responses"][str(answer.status)])
    for header, how in response.get("headers", {}).items():
        if resolve(how).get("required") is False and header.lower() not in answer.headers:
            continue
        value: str | int = answer.headers[header.lower()]
        schema = resolve(resolve(how)["schema"])
        assert wrong(schema, int(value) if schema["type"] == "integer" else value) == []
    content = response.get("content")
    if content is None:
        assert answer.body == b""
        return
    kind = answer.headers["content-type"].partition(";")[0]
    if kind.endswith("json"):
        lines = kind.endswith("x-ndjson")
        found = [json.loads(x) for x in answer.body.splitlines()] if lines else answer.json
        assert wrong(content[kind]["schema"], found) == []
    assert kind in content


def test_every_operation_was_asked() -> None:
    good = {name for name, *_, status in ANSWERS if status < 400}
    assert good == {found["operationId"] for *_, found in operations()}


def test_health_of_a_bad_day_is_described(tmp_path: Path) -> None:
    recorder = Recorder(Writer(str(tmp_path / "t.db")), 0)
    checkpointer = Checkpointer(recorder.writer, 1 << 22)
    health = Health(Counters(), recorder, checkpointer, Log(100))
    checkpointer.held = True
    seen = set(health.report())
    assert wrong(ref("schemas", "Health"), health.report()) == []
    recorder.degrade(StoreError("the disk is full"), 0.0)
    seen |= set(health.report())
    assert wrong(ref("schemas", "Health"), health.report()) == []
    assert seen == set(at("components schemas Health properties"))
    recorder.writer.close()


# Schemathesis

EXAMPLES = 60  # of each operation
LONG_EXAMPLES = 1000


def ask_everything(bell: Bell, folder: Path, examples: int, *more: str) -> str:
    """Run Schemathesis against a server; returns what it printed. Fails where it found a fault."""
    # From a file: of one that it loads from a server it leaves out the address it came from.
    path = folder / "document.json"
    path.write_bytes(bell.get("/openapi.json").body)
    inherited = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME")}
    ran = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")),
            f"--config-file={HERE / 'schemathesis.toml'}",
            "run",
            str(path),
            f"--url=http://127.0.0.1:{bell.port}",
            "--checks=all",
            "--phases=examples,coverage,fuzzing,stateful",
            f"--max-examples={examples}",
            "--no-color",
            *more,
        ],
        cwd=folder,
        env={**inherited, "PYTHONPATH": str(HERE), "COLUMNS": "100"},
        capture_output=True,
        text=True,
    )
    printed = ran.stdout + ran.stderr
    assert bell.process is not None
    assert bell.process.poll() is None, (bell.process.poll(), bell.error_file.read_text())
    assert ran.returncode == 0, printed
    return printed


def nothing_failed_inside(bell: Bell) -> None:
    bad = [line for line in bell.lines() if line["level"] in ("WARN", "ERROR")]
    assert bad == []
    assert bell.error_file.read_text() == ""


def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    with serving(tmp_path, INSTANT_SECONDS="0") as bell:
        # Examples ask for these.
        bell.create(campaign="spring")
        printed = ask_everything(bell, tmp_path, EXAMPLES, "--seed=1")  # the long form varies
        nothing_failed_inside(bell)
    count = len(list(operations()))
    assert f"Selected: {count}/{count}" in printed, printed
    for phase in ("Examples", "Coverage", "Fuzzing", "Stateful"):
        assert f"✅ {phase}" in printed, printed


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_schemathesis_finds_nothing_for_long(tmp_path: Path, soak: bool) -> None:
    if not soak:
        pytest.skip("the long form: make soak")
    with serving(tmp_path, INSTANT_SECONDS="0") as bell:
        bell.create(campaign="spring")
        ask_everything(bell, tmp_path, LONG_EXAMPLES)
        nothing_failed_inside(bell)


def test_schemathesis_would_find_something(bell: Bell) -> None:
    """A document that says less than the server does is found wrong."""
    narrow = json.loads(json.dumps(document()))
    event = narrow["components"]["schemas"]["Event"]
    del event["properties"]["label"]
    event["required"].remove("label")
    schema = schemathesis.openapi.from_dict(narrow)
    schema.config.update(base_url=f"http://127.0.0.1:{bell.port}")
    case = schema["/{tenant}/events"]["GET"].Case(path_parameters={"tenant": "acme"})
    with pytest.raises(FailureGroup, match="label"):
        case.call_and_validate()
