"""Which deliveries are accepted: events, signed by any active secret, in time."""

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from app.errors import RejectedDelivery
from app.inbox.delivery import Members, read_event
from app.resources import Resources
from app.settings import Account
from app.simulator import Simulator
from tests.inbox.intake_events import accept, an_event, intake_of, kept, signed
from tests.service import WEBHOOK_SECRET, make_settings

NOT_BELIEVED = [
    (b"\xff\xfe{}", "not_utf8"),
    (b"{", "not_json"),
    (b"", "not_json"),
    (b"\x00" + json.dumps(an_event()).encode(), "not_json"),
    (b"[]", "not_an_event"),
    (b'"event"', "not_an_event"),
    (json.dumps(an_event(object="charge")).encode(), "not_an_event"),
    (json.dumps(an_event(object=["event"])).encode(), "not_an_event"),
    (json.dumps(an_event(id=...)).encode(), "no_id_or_type"),
    (json.dumps(an_event(id="")).encode(), "no_id_or_type"),
    (json.dumps(an_event(id=17)).encode(), "no_id_or_type"),
    (json.dumps(an_event(id="evt_\x00")).encode(), "no_id_or_type"),
    (json.dumps(an_event(id="e" * 256)).encode(), "no_id_or_type"),
    (json.dumps(an_event(type=...)).encode(), "no_id_or_type"),
    (json.dumps(an_event(type={})).encode(), "no_id_or_type"),
]


NOT_SIGNED = [
    "",
    "t=1",
    "v1=abc",
    "t=,v1=",
    "t=x,v1=abc",
    "t=1,t=2,v1=abc",
    "t=99999999999999999999,v1=abc",
    "t=-1,v1=abc",
    "t=²,v1=abc",
    "t=1\x00,v1=é",
    "t,v1",
    "," * 3000,
]


async def test_what_is_not_an_event_is_refused_and_only_counted(res: Resources) -> None:
    for body, reason in NOT_BELIEVED:
        with pytest.raises(RejectedDelivery, match=reason):
            await accept(res.intake, body)

    assert await kept(res) == []
    assert res.intake.refused.by_reason == Counter(reason for _, reason in NOT_BELIEVED)


def test_odd_headers_are_missing_signatures_and_nothing_else(account: Account) -> None:
    body = json.dumps(an_event()).encode()
    for header in NOT_SIGNED:
        with pytest.raises(RejectedDelivery, match=r"^(no|bad)_signature$"):
            read_event(body, header, account, now=1.0)


@given(body=st.binary(max_size=60) | st.text(max_size=40).map(str.encode), header=st.text(max_size=60))
def test_no_body_and_no_header_at_all_raises_anything_but_unverified(
    account: Account, body: bytes, header: str
) -> None:
    for given_header in (header, f"t=1,v1={header}", signed(body, at=1)):
        with pytest.raises(RejectedDelivery):
            read_event(body, given_header, account, now=1.0)


@given(
    event=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=6,
    ),
    field=st.sampled_from(["id", "object", "type", "created", "livemode", "data", "account", "context"]),
)
def test_an_event_with_anything_in_any_field_is_read_or_rejected(account: Account, event: object, field: str) -> None:
    body = json.dumps(an_event(**{field: event})).encode()
    try:
        found = read_event(body, signed(body, at=1), account, now=1.0)
    except RejectedDelivery:
        return
    assert found.stripe_event_id
    assert found.status in ("pending", "ignored")


@pytest.fixture(scope="module")
def account() -> Account:
    return Account("default", None, (SecretStr(WEBHOOK_SECRET),), livemode=False)


@pytest.mark.parametrize("away", [-299, 0, 299])
def test_a_time_stamp_within_five_minutes_either_way_is_accepted(account: Account, away: int) -> None:
    body = json.dumps(an_event()).encode()

    assert read_event(body, signed(body, at=10_000 + away), account, now=10_000.0)


@pytest.mark.parametrize("away", [-302, 302, 86_400])
def test_an_old_or_future_time_stamp_is_rejected(account: Account, away: int) -> None:
    body = json.dumps(an_event()).encode()

    with pytest.raises(RejectedDelivery, match="wrong_time"):
        read_event(body, signed(body, at=10_000 + away), account, now=10_000.0)


async def test_any_of_several_secrets_is_accepted_so_that_they_can_be_rotated(
    database_url: str, simulator: Simulator, res: Resources
) -> None:
    settings = make_settings(database_url, simulator, STRIPE_WEBHOOK_SECRET="whsec_old, whsec_new,")
    async with intake_of(settings) as intake:
        for number, secrets in enumerate([["whsec_old"], ["whsec_new"], ["whsec_other", "whsec_new"]]):
            body = json.dumps(an_event(id=f"evt_{number}")).encode()
            await accept(intake, body, header=signed(body, *secrets))
        with pytest.raises(RejectedDelivery):
            await accept(intake, b"{}", header=signed(b"{}", "whsec_other"))

    assert len(await kept(res)) == 3


async def test_accounts_without_a_secret_and_unknown_ones_take_no_events(
    database_url: str, simulator: Simulator, res: Resources
) -> None:
    async with intake_of(make_settings(database_url, simulator, STRIPE_WEBHOOK_SECRET="")) as intake:
        assert intake.account("default") is None
    assert res.intake.account("elsewhere") is None


SHOP = Account("shop", SecretStr("sk_live_1"), (), livemode=True, stripe_account="acct_shop")
SHOP_TESTS = Account("shop-tests", SecretStr("sk_test_1"), (), livemode=False, stripe_account="acct_shop")
MEMBER = Account("member", SecretStr("sk_org_test_1"), (), livemode=False, stripe_context="acct_member")


@pytest.mark.parametrize(
    ("changes", "whose", "reason"),
    [
        ({"account": "acct_shop", "livemode": True}, "shop", None),
        ({"account": "acct_shop", "context": "acct_shop", "livemode": False}, "shop-tests", None),
        ({"context": "acct_member"}, "member", None),
        ({"context": "acct_member", "livemode": True}, "member", "wrong_mode"),
        ({"account": "acct_member"}, "default", "connected_account"),  # the key of an organization does not go there
        ({"account": "acct_other"}, "default", "connected_account"),
        ({"account": ["acct_shop"]}, "default", "connected_account"),
        ({"account": "acct_shop", "type": "customer.created", "livemode": True}, "shop", "unused_type"),
        ({"account": "acct_other", "type": "account.updated"}, "default", None),
        ({"context": "acct_other", "type": "account.updated"}, "default", "connected_account"),
        ({"account": "acct_shop", "type": "account.updated", "livemode": True}, "shop", "unused_type"),
        ({"type": "account.updated"}, "default", "unused_type"),
        ({}, "default", None),
    ],
)
def test_an_event_belongs_to_the_account_that_it_names_whichever_path_it_came_by(
    account: Account, changes: dict[str, object], whose: str, reason: str | None
) -> None:
    body = json.dumps(an_event(**changes)).encode()

    found = read_event(body, signed(body, at=1), account, Members([account, SHOP, SHOP_TESTS, MEMBER]), now=1.0)

    assert (found.account, found.reason) == (whose, reason)
