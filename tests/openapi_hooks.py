"""What Schemathesis (see test_openapi.py) is told beside the document: how NDJSON is written and
read, and what the document says in words since no schema can.

Only requests that are meant to be right are put right; wrong ones go out as they were made.
"""

import json
from datetime import date, timedelta
from itertools import count
from typing import Any
from urllib.parse import quote, unquote

import schemathesis
from hypothesis import strategies as st
from schemathesis import Case, DeserializationContext, HookContext, Response, SerializationContext
from schemathesis.generation import GenerationMode

from little_bell.reports.cursors import encode

NDJSON = "application/x-ndjson"
ZONES = ("UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "Australia/Lord_Howe")
KEYS = count(1)

# Targets that browsers take for http or https: the format `uri` alone has many more.
PARTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=20)
schemathesis.openapi.format(
    "uri",
    st.builds(
        lambda scheme, host, port, path, query: f"{scheme}://{host}{port}/{path}?{query}",
        st.sampled_from(["http", "https", "HTTPS"]),
        st.sampled_from(["example.com", "192.0.2.7", "[2001:db8::1]", "xn--bcher-kva.example"]),
        st.sampled_from(["", ":8080", ":443"]),
        PARTS.map(lambda text: quote(text, safe="")),
        PARTS.map(lambda text: quote(text, safe="=&+;/?:@")),
    ),
)


@schemathesis.serializer(NDJSON)
def write_lines(_context: SerializationContext, value: object) -> bytes:
    """A list, an item a line; anything else in a list in a line, which is as wrong as it is."""
    items = value if isinstance(value, list) else [[value]]
    return "".join(json.dumps(item) + "\n" for item in items).encode("ascii")


@schemathesis.deserializer(NDJSON)
def read_lines(_context: DeserializationContext, response: Response) -> object:
    return [json.loads(line) for line in response.content.splitlines()]


@schemathesis.serializer("message/rfc822")
def write_message(_context: SerializationContext, value: object) -> bytes:
    """A text; what is none is as wrong as nothing at all, since any bytes may be a message."""
    return value.encode("utf-8", "replace") if isinstance(value, str) else b""


@schemathesis.deserializer("message/rfc822")
def read_message(_context: DeserializationContext, response: Response) -> object:
    return response.content.decode("utf-8", "replace")


@schemathesis.hook
def filter_case(_context: HookContext, case: Case[Any]) -> bool:
    """No tenant can be called `-`, but what follows it is an address of the pages' files."""
    return case.path_parameters.get("tenant") != "-"


@schemathesis.hook
def before_call(_context: HookContext, case: Case[Any], _kwargs: dict[str, Any]) -> None:
    meta = case.meta
    if meta is None or meta.generation.mode is not GenerationMode.POSITIVE:
        return
    operation = case.operation.definition.raw["operationId"]
    query = case.query
    if operation == "deleteTenant" and "confirm" in query:
        query["confirm"] = case.path_parameters["tenant"]
    if operation == "eraseRecipient" and "confirm" in query:
        query["confirm"] = unquote(str(case.path_parameters["recipient"]))
    if operation in ("createEmails", "trackMessage") and "Idempotency-Key" in case.headers:
        # One that came before gets what it got then, perhaps an email that is deleted since, or 422
        # with another body: all that is in test_idempotency.py.
        case.headers["Idempotency-Key"] = f"{case.headers['Idempotency-Key'][:200]}{next(KEYS)}"
    if operation == "createEmails" and not rewritten(case.body):
        query.pop("dry_run", None)  # which is for one email at a time
    if operation == "changeSettings" and isinstance(case.body, dict) and "hosts" in case.body:
        case.body["hosts"] = None  # else links of examples may lead nowhere any more
    if "recipient" in query:
        query.pop("recipient_prefix", None)
    if "tz" in query:
        query["tz"] = ZONES[len(str(query["tz"])) % len(ZONES)]
    put_period_right(query)
    if query.get("order") == "top":
        query.pop("cursor", None)
        if "limit" in query:
            query["limit"] = min(int(query["limit"]), 100)
    if "after" in query or "before" in query:
        query.pop("cursor", None)
        if "after" in query:
            query.pop("before", None)
    if "cursor" in query:
        query["cursor"] = cursor(operation, query)


def rewritten(body: object) -> bool:
    return isinstance(body, dict) and not {"html", "text", "options"}.isdisjoint(body)


def put_period_right(query: dict[str, Any]) -> None:
    """It ends after it begins, and has no more than 1,000 intervals."""
    if "interval" in query and ("from" in query or "to" in query):
        query["from"], query["to"] = "2026-03-01", "2026-03-31"
    if "from" in query and "to" in query:
        first = date.fromisoformat(str(query["from"])[:10])
        if str(query["to"])[:10] < str(first + timedelta(2)):
            first = min(first, date(2100, 1, 1))
            query["from"], query["to"] = str(first), str(first + timedelta(2))


def cursor(operation: str, query: dict[str, Any]) -> str:
    """One that could have been given for such a query."""
    number = sum(map(ord, query["cursor"]))
    values: tuple[int | str | None, ...] = (number,)
    if operation == "readEmail":
        values = (number, None)
    elif operation == "listEmails" and by_recipient(query):
        values = ("ada@example.com", number)
    return encode(values)


def by_recipient(query: dict[str, Any]) -> bool:
    return "recipient_prefix" in query and query.get("order") != "activity"
