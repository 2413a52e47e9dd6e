"""Hosts: where a tenant's links may lead."""

from functools import lru_cache

ANY = "*."  # before a name: all that is below it
WANTED = "a host without a port, such as example.com, or *.example.com for all below it"
KEPT = 256  # lists that are kept as they are looked at


def canonical_host(text: str) -> str:
    """A host as it stands in canonical URLs: in lower case, IDNA, without a dot at its end; `*.`
    may stand before a name. Raises ValueError where it is none."""
    import ada_url

    wild = text.startswith(ANY)
    name = text.removeprefix(ANY)
    bare = name[1:-1] if name[:1] == "[" and name[-1:] == "]" else name.replace(":", "/")
    if any(c in "/\\?#@%*" or not c.isprintable() for c in bare):
        raise ValueError(WANTED)
    try:
        parsed = ada_url.parse_url(f"http://{name}/", ("hostname", "host_type"))
    except ValueError:
        raise ValueError(WANTED) from None
    host = str(parsed["hostname"]).removesuffix(".")
    if not host or (wild and parsed["host_type"] != ada_url.HostType.DEFAULT):
        raise ValueError(WANTED)
    return ANY + host if wild else host


def host_of(url: str) -> str:
    """The host of a canonical URL, without port and without a dot at its end."""
    host = url.partition("://")[2].partition("/")[0]
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0].removesuffix(".")


def allows(hosts: tuple[str, ...] | None, url: str) -> bool:
    """Whether a canonical URL leads to one of these hosts; None: all are allowed."""
    if hosts is None:
        return True
    exact, below = _read(hosts)
    host = host_of(url)
    return host in exact or host.endswith(below)


@lru_cache(maxsize=KEPT)
def _read(hosts: tuple[str, ...]) -> tuple[frozenset[str], tuple[str, ...]]:
    """Hosts, and the ends of those that are below one; what is no host allows none."""
    exact, below = set(), set()
    for one in hosts:
        try:
            host = canonical_host(one)
        except ValueError:
            continue
        if host.startswith(ANY):
            below.add(host[1:])
        else:
            exact.add(host)
    return frozenset(exact), tuple(below)
