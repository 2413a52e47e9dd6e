"""Emails that come to be tracked: what is asked for, checked, and the answers. In threads of the
slow lane, or in the command that does the same; the fast lane never imports it."""

from base64 import b64encode
from collections.abc import Callable
from typing import NamedTuple

from little_bell.api.emails import MAX_TEXT, clean, read_email, read_object, where
from little_bell.api.large import read_large
from little_bell.api.parameters import Parameters
from little_bell.api.recipients import opted_out
from little_bell.config import Config
from little_bell.errors import Refused, StoreError
from little_bell.mail.envelope import recipient_of, subject_of
from little_bell.mail.options import NAMES, read_flag, read_options, read_words
from little_bell.mail.report import Options, Report
from little_bell.mail.rewriting import Recipe, rewrite_mail, rewrite_parts
from little_bell.mail.steering import read_steering, without_steering
from little_bell.store.names import policy_of, tenant_id
from little_bell.store.reader import Reader
from little_bell.tracking.email import NewEmail
from little_bell.tracking.links import query_value
from little_bell.tracking.privacy import CONSENTS, FULL, NONE, trimmed
from little_bell.tracking.signing import Keyring
from little_bell.wire.answers import JSON_HEADERS, to_json
from little_bell.wire.http import Headers
from little_bell.wire.policies import Policies

MESSAGE_TYPES = (b"message/rfc822", b"message/global")
PARAMETERS = ("recipient", "campaign", "consent", "dry_run", *NAMES)
EMAIL_ID = "Little-Bell-Email-Id"  # the header of an answer that is a message
STEERED = ("campaign", "track")  # beside options, in X-Little-Bell

NO_CONSENT = "the consent is none: nothing may be stored, so the email was left as it is"
OPTED_OUT = "the recipient opted out: the email was left as it is"

Answer = tuple[int, Headers, bytes]


class Mail(NamedTuple):
    """`POST /{tenant}/emails` with `html` or `text`."""

    email: NewEmail
    html: str | None
    text: str | None
    options: Options
    members: frozenset[str]  # that were given


class Message(NamedTuple):
    """`POST /{tenant}/messages`."""

    email: NewEmail
    raw: bytes  # without X-Little-Bell
    options: Options
    tracked: bool  # it did not say `track=none`
    problems: list[str]  # in X-Little-Bell


def is_message(content_type: bytes) -> bool:
    """Whether a Content-Type says that the body is a whole email (RFC 2046 5.2.1, RFC 6532)."""
    return content_type.partition(b";")[0].strip().lower() in MESSAGE_TYPES


def is_dry(query: bytes) -> bool:
    """Whether nothing is to be created. Raises Refused (400)."""
    word = query_value(query, "dry_run")
    return word is not None and read_flag(word, "dry_run")


def parse_mail(tenant: str, body: bytes, short: int) -> Mail:
    """An email with what is to be rewritten; a body of more than `short` bytes needs some.

    Raises Refused (400, 413)."""
    too_large = Refused(413, f"the body is larger than {short} bytes, without html and not a list")
    if len(body) <= short:
        members = read_object(body)
    elif body.lstrip()[:1] != b"{":
        raise too_large
    else:
        members = read_large(body, short)
    given = frozenset(members)
    html, text = (_source(members.pop(name, None), name) for name in ("html", "text"))
    if len(body) > short and html is None and text is None:
        raise too_large
    options = read_options(members.pop("options", None))
    return Mail(read_email(tenant, members), html, text, options, given)


def _source(value: object, name: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise Refused(400, f"{name} is not a string", name)
    return value


def parse_message(tenant: str, raw: bytes, query: bytes) -> Message:
    """A message, and what its header and the query say of it; of both the header counts.

    Raises Refused (400) for what the query says; what is wrong in the message is a problem."""
    if not raw.strip():
        raise Refused(400, "the body holds no message")
    parameters = Parameters(query, PARAMETERS, ("recipient",))
    options = read_words(parameters)
    texts = {
        name: clean(parameters[name], name, MAX_TEXT[name])
        for name in ("recipient", "campaign")
        if name in parameters
    }
    consent = parameters.choice("consent", CONSENTS)
    problems: list[str] = []
    tracked = True
    for name, word in read_steering(raw).items():
        try:
            if name == "campaign":
                texts[name] = clean(word, name, MAX_TEXT[name])
            elif name in NAMES:
                options = read_words({name: word}, options)
            elif (name, word.lower()) == ("track", "none"):
                tracked = False
            else:
                known = ", ".join((*STEERED, *NAMES))
                raise Refused(400, f"unknown is {name[:64]}={word[:64]}; known are {known}")
        except Refused as refused:
            problems.append(f"X-Little-Bell: {refused.detail}")
    said = texts.get("recipient")  # empty: nobody, where several get the message
    recipient = _address(raw) if said is None else trimmed(said) or None
    email = NewEmail(
        tenant,
        _fitting(subject_of(raw), "subject"),
        recipient,
        texts.get("campaign") or None,
        None,
        consent=FULL if consent is None else CONSENTS.index(consent),
    )
    return Message(email, without_steering(raw), options, tracked, problems)


def _fitting(text: str | None, field: str) -> str | None:
    """As much of a text as is stored."""
    return None if text is None else clean(text[: MAX_TEXT[field]], field, MAX_TEXT[field]) or None


def _address(raw: bytes) -> str | None:
    recipient = recipient_of(raw)
    if recipient is None or len(recipient) > MAX_TEXT["recipient"]:
        return None
    return _fitting(recipient.replace("\0", ""), "recipient")


class Mailroom:
    """Rewrites emails that were registered, with the tenant's own rules."""

    def __init__(self, config: Config, ring: Keyring, reader: Callable[[], Reader]) -> None:
        """`reader` gives the connection of the thread that asks."""
        self.config = config
        self.ring = ring
        self.reader = reader
        self.policies = Policies(config)

    def recipe(self, email: NewEmail, number: int) -> Recipe:
        """How this email is rewritten. Never raises."""
        hosts, alone = None, None
        try:
            hosts, alone = self._rules(email)
        except StoreError as error:
            alone = f"the tenant's rules cannot be read ({error}): the email was left as it is"
        return Recipe(self.config.base_url, self.ring, email.tenant, number, hosts, alone)

    def _rules(self, email: NewEmail) -> tuple[tuple[str, ...] | None, str | None]:
        with self.reader() as reader:
            tenant = tenant_id(reader, email.tenant) or 0  # perhaps there is none yet
            own = policy_of(reader, tenant)
            out = email.recipient is not None and opted_out(reader, tenant, email.recipient)
        consent = self.policies.effective(own).consent or FULL
        if max(consent, email.consent) == NONE:
            return own.hosts, NO_CONSENT
        return own.hosts, OPTED_OUT if out else None

    def answer_mail(self, mail: Mail, number: int) -> Answer:
        """The answer to one that was created; 0: to one that was not."""
        recipe = self.recipe(mail.email, number)
        html, text, report = rewrite_parts(mail.html, mail.text, mail.options, recipe)
        members: dict[str, object] = {
            "email_id": number or None,
            "tracking_pixel_url": recipe.pixel,
            "html": html,
            "text": text,
            "report": report.as_dict(),
        }
        return self._answer(recipe, members)

    def rewrite(self, message: Message, number: int) -> tuple[bytes, Report, Recipe]:
        """The message with links and pixel. Never raises."""
        recipe = self.recipe(message.email, number)
        if message.tracked:
            raw, report = rewrite_mail(message.raw, message.options, recipe)
        else:
            raw, report = message.raw, Report()
        report.problems[:0] = message.problems
        return raw, report, recipe

    def answer_message(self, message: Message, number: int, as_json: bool) -> Answer:
        """The same for a message."""
        raw, report, recipe = self.rewrite(message, number)
        if as_json:
            members: dict[str, object] = {
                "email_id": number or None,
                "tracking_pixel_url": recipe.pixel if message.tracked else None,
                "message": b64encode(raw).decode("ascii"),
                "report": report.as_dict(),
            }
            return self._answer(recipe, members)
        headers: Headers = (("Content-Type", "message/rfc822"), *JSON_HEADERS[1:])
        if number:
            headers += ((EMAIL_ID, str(number)), *self._where(recipe))
        return 201 if number else 200, headers, raw

    def _answer(self, recipe: Recipe, members: dict[str, object]) -> Answer:
        if not recipe.email:
            return 200, JSON_HEADERS, to_json(members)
        return 201, JSON_HEADERS + self._where(recipe), to_json(members)

    def _where(self, recipe: Recipe) -> Headers:
        return where(self.config.prefix, recipe.tenant, recipe.email)
