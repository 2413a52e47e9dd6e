"""What is switched off, in memory: a tenant, some of its emails, some of its links.

Addresses are kept as digests, so that a thousand of them take a hundred KiB at most.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from little_bell.tracking import signing

MAX_BLOCKS = 1000  # of a tenant
TENANT, EMAIL, LINK = range(3)  # kinds of blocks


class Blocked(NamedTuple):
    """The blocks of a tenant, by what they switch off. Not changed: others take its place."""

    whole: int = 0  # the number of the block of all of it, 0 where there is none
    emails: dict[int, int] = {}  # noqa: RUF012 - nobody changes it
    links: dict[bytes, int] = {}  # noqa: RUF012
    last: int = 0  # the highest number so far

    @property
    def size(self) -> int:
        return len(self.emails) + len(self.links) + bool(self.whole)

    def holds(self, email: int, url: str | None) -> bool:
        """Whether a hit on this email, or on this canonical target, is not to count."""
        if self.whole or email in self.emails:
            return True
        return url is not None and bool(self.links) and digest(url) in self.links

    def number(self, email: int, url: str | None) -> int:
        """The number of the block of exactly this (0 and None: of the tenant); 0: none."""
        if email:
            return self.emails.get(email, 0)
        return self.whole if url is None else self.links.get(digest(url), 0)

    def added(self, block: int, email: int, url: str | None) -> "Blocked":
        """The same with one block more."""
        last = max(self.last, block)
        if email:
            return self._replace(emails={**self.emails, email: block}, last=last)
        if url is not None:
            return self._replace(links={**self.links, digest(url): block}, last=last)
        return self._replace(whole=block, last=last)

    def without(self, block: int) -> "Blocked":
        """The same without one block. Its number is not given to another while this is known."""
        return Blocked(
            0 if self.whole == block else self.whole,
            {email: one for email, one in self.emails.items() if one != block},
            {link: one for link, one in self.links.items() if one != block},
            self.last,
        )

    def has(self, block: int) -> bool:
        """Whether there is a block of this number."""
        numbers = (self.whole, *self.emails.values(), *self.links.values())
        return block > 0 and block in numbers


NO_BLOCKS = Blocked()


def digest(url: str) -> bytes:
    """By what a target is known here."""
    return signing.digest(url.encode("utf-8"))[:16]


def gather(rows: Iterable[Any]) -> dict[int, Blocked]:
    """The blocks of each tenant, from rows of tenant, block, email (or None) and url (or None)."""
    parts: dict[int, tuple[list[int], dict[int, int], dict[bytes, int], list[int]]] = {}
    for tenant, block, email, url in rows:
        whole, emails, links, numbers = parts.setdefault(tenant, ([0], {}, {}, []))
        numbers.append(block)
        if email is not None:
            emails[email] = block
        elif url is not None:
            links[digest(url)] = block
        else:
            whole[0] = block
    return {
        tenant: Blocked(whole[0], emails, links, max(numbers))
        for tenant, (whole, emails, links, numbers) in parts.items()
    }
