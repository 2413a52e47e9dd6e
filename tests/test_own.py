"""The sender's own addresses: a look from there is no open by people."""

from collections.abc import Iterator

import pytest

from bell import Bell, fresh_tenant, serving
from little_bell.config import Config
from little_bell.tracking.classify import reason_codes
from little_bell.tracking.client import is_own, pack
from little_bell.tracking.hit import OWN
from little_bell.tracking.rules import CLASSES

OFFICE, ALICE, BOB = "203.0.113.7", "198.51.100.77", "2001:db8:b0b::1"


@pytest.fixture(scope="module")
def bell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    """One office of all, a network of alice's, one of bob's; loopback is a trusted proxy."""
    own = f"{OFFICE}, alice=198.51.100.64/26, bob=2001:db8:b0b::/64,"
    folder = tmp_path_factory.mktemp("own")
    with serving(folder, OWN_ADDRESSES=own, INSTANT_SECONDS="0") as bell:
        yield bell


def looks(bell: Bell, tenant: str, address: str, click: bool = False) -> tuple[object, ...]:
    """Open (or click) a new email from an address: class, reasons, flag, and what was counted."""
    email = bell.create(tenant)
    what = f"click/{email}?url=https://example.com/" if click else f"pixel/{email}.gif"
    answer = bell.get(f"/{tenant}/{what}", X_Forwarded_For=address)
    assert answer.status == (302 if click else 200)
    columns = "clicks, machine_clicks" if click else "opens, machine_opens"
    [(class_, reasons, flags, people, machines)] = bell.rows(
        f"SELECT class, reasons, e.flags, {columns} FROM events e JOIN states USING (tenant, email)"
        " JOIN tenants USING (tenant) WHERE name = ? AND email = ?",
        *(tenant, email),
    )
    return CLASSES[class_], reason_codes(reasons), bool(flags & OWN), people, machines


MINE = ("machine", ("browser", "own"), True, 0, 1)
PEOPLE = ("human", ("browser",), False, 1, 0)


def test_it_works(bell: Bell) -> None:
    assert looks(bell, "alice", ALICE) == MINE
    assert looks(bell, "alice", ALICE, click=True) == MINE
    assert looks(bell, "alice", "198.51.100.63") == PEOPLE


def test_the_full_address_counts_and_not_what_is_kept_of_it(bell: Bell) -> None:
    assert looks(bell, "bob", BOB) == MINE
    assert looks(bell, "bob", "2001:db8:b0b:1::1") == PEOPLE  # the same /48
    assert looks(bell, "alice", "203.0.113.8") == PEOPLE


@pytest.mark.parametrize("click", [False, True])
def test_another_tenants_address_is_a_stranger(bell: Bell, click: bool) -> None:
    for tenant, address in (("bob", ALICE), ("alice", BOB), ("charlie", ALICE), ("Alice", ALICE)):
        assert looks(bell, tenant, address, click) == PEOPLE
    assert looks(bell, "alice", ALICE, click) == MINE


def test_an_entry_without_a_tenant_is_everybodys(bell: Bell) -> None:
    for tenant in ("alice", "bob", fresh_tenant()):
        assert looks(bell, tenant, OFFICE) == MINE
        assert looks(bell, tenant, f"::ffff:{OFFICE}") == MINE


def test_a_look_of_ones_own_does_not_hide_an_open(bell: Bell) -> None:
    tenant = fresh_tenant()
    email = bell.create(tenant)
    for address in (OFFICE, ALICE, OFFICE):
        bell.get(f"/{tenant}/pixel/{email}.gif", X_Forwarded_For=address)
    figures = bell.rows(
        "SELECT sum(opens), sum(machine_opens), sum(unique_opens) FROM figures "
        "JOIN tenants USING (tenant) WHERE name = ? AND scope = 0",
        tenant,
    )
    assert figures == [(1, 2, 1)]


def test_what_a_stranger_says_of_his_address_is_not_believed(bell: Bell) -> None:
    spoofed = f"{OFFICE}, 192.0.2.1"
    assert looks(bell, "alice", spoofed) == PEOPLE


def test_forms_of_the_setting() -> None:
    own = Config(
        {"OWN_ADDRESSES": " a=192.0.2.1 ,, ::1 , a = 10.0.0.0/8, B-2=::/16 "}
    ).own_addresses
    assert sorted(own) == ["", "B-2", "a"]
    assert [len(own[name]) for name in ("", "B-2", "a")] == [1, 1, 2]
    for tenant, address, expected in (
        ("a", "10.9.9.9", True),
        ("a", "11.9.9.9", False),
        ("b", "192.0.2.1", False),
        ("b", "::1", True),
        ("B-2", "0:1::", True),
        ("b-2", "0:1::", False),
    ):
        packed = pack(address)
        assert packed is not None
        assert is_own(packed, tenant, own) is expected, (tenant, address)
    assert Config({}).own_addresses == {}


def test_nothing_is_ones_own_where_nothing_is_set(tmp_path_factory: pytest.TempPathFactory) -> None:
    with serving(tmp_path_factory.mktemp("none")) as bell:
        for address in (OFFICE, "127.0.0.1", "10.0.0.1"):
            assert looks(bell, "alice", address) == PEOPLE
