"""One email on its way through: what is put into it for a tenant and a number."""

from typing import NamedTuple

from little_bell.errors import Refused
from little_bell.mail.html import rewrite_html
from little_bell.mail.mime import rewrite_message
from little_bell.mail.report import Addresses, Options, Report
from little_bell.mail.text import rewrite_text
from little_bell.tracking import addresses as tracking
from little_bell.tracking.hosts import allows
from little_bell.tracking.signing import Keyring


class Recipe(NamedTuple):
    """With what an email is rewritten. Links and pixel are signed, whatever LINK_POLICY says."""

    base_url: str
    ring: Keyring
    tenant: str
    email: int  # 0: none was created, hence nothing counts
    hosts: tuple[str, ...] | None  # where links may lead
    left_alone: str | None = None  # why nothing may be changed

    @property
    def pixel(self) -> str:
        """The URL of its pixel."""
        paths = tracking.Addresses(self.ring, True)
        return self.base_url + paths.pixel(self.tenant, self.email)

    def addresses(self) -> Addresses:
        """Where links and pixel lead to."""
        paths = tracking.Addresses(self.ring, True)

        def link(url: str, label: str, part: str) -> str:
            if not allows(self.hosts, url):
                raise Refused(400, f"links of {self.tenant} may not lead to this host", "url")
            target = tracking.Link(url, label, part)
            return self.base_url + paths.link(self.tenant, self.email, target)

        return Addresses(link, self.pixel, (self.base_url,))

    def report(self) -> Report:
        """Of an email that may not be changed."""
        report = Report()
        if self.left_alone is not None:
            report.problems.append(self.left_alone)
        return report


def rewrite_parts(
    html: str | None, text: str | None, options: Options, recipe: Recipe, unicode: bool = True
) -> tuple[str | None, str | None, Report]:
    """HTML and text, rewritten; what is not there stays None. `unicode` as of `rewrite_html`.
    Never raises."""
    report = recipe.report()
    if recipe.left_alone is not None:
        return html, text, report
    addresses = recipe.addresses()
    if html is not None:
        html, told = rewrite_html(html, addresses, options, unicode=unicode)
        report.add(told)
    if text is not None:
        text, told = rewrite_text(text, addresses, options, report.opted_out())
        report.add(told)
    return html, text, report


def rewrite_mail(raw: bytes, options: Options, recipe: Recipe) -> tuple[bytes, Report]:
    """A whole message, rewritten. Never raises."""
    if recipe.left_alone is not None:
        return raw, recipe.report()
    return rewrite_message(raw, recipe.addresses(), options)
