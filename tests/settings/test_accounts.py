"""The accounts and tokens that follow from the settings."""

import json

import pytest
from pydantic import SecretStr

from app.settings import Account
from app.vocabulary import Role
from tests.settings.given import DIGEST, problems_of, settings_of, shown


def test_a_key_alone_is_the_account_default() -> None:
    settings = settings_of(STRIPE_API_KEY="rk_live_1")

    assert settings.accounts == {"default": Account("default", SecretStr("rk_live_1"), (), livemode=True)}


def test_a_signing_secret_alone_is_the_account_default_too() -> None:
    settings = settings_of(STRIPE_WEBHOOK_SECRET="whsec_1")

    assert settings.accounts == {"default": Account("default", None, (SecretStr("whsec_1"),), livemode=None)}


@pytest.mark.parametrize(
    ("text", "secrets"),
    [
        ("a,b", ["a", "b"]),
        (" a , b ", ["a", "b"]),
        ("a,,b,", ["a", "b"]),
        (",", []),
        (" , ", []),
    ],
)
def test_blank_signing_secrets_never_become_secrets(text: str, secrets: list[str]) -> None:
    settings = settings_of(STRIPE_API_KEY="k", STRIPE_WEBHOOK_SECRET=text)

    assert [shown(secret) for secret in settings.accounts["default"].webhook_secrets] == secrets


def test_only_commas_make_no_account() -> None:
    assert settings_of(STRIPE_WEBHOOK_SECRET=" , ,").accounts == {}


@pytest.mark.parametrize(
    ("key", "livemode"),
    [
        ("sk_live_1", True),
        ("rk_live_1", True),
        ("sk_test_1", False),
        ("rk_test_1", False),
        ("rk_org_1", None),
        ("xsk_live_1", None),
    ],
)
def test_the_key_says_its_mode(key: str, livemode: bool | None) -> None:
    assert settings_of(STRIPE_API_KEY=key).accounts["default"].livemode is livemode


def test_several_accounts_stand_beside_the_default() -> None:
    accounts = {"eu": {"api_key": "sk_test_2", "webhook_secrets": ["w1", " ", "w2"]}, "us-1": {"api_key": "k"}}

    settings = settings_of(STRIPE_API_KEY="k1", STRIPE_ACCOUNTS=json.dumps(accounts))

    assert set(settings.accounts) == {"default", "eu", "us-1"}
    assert settings.accounts["eu"] == Account(
        "eu", SecretStr("sk_test_2"), (SecretStr("w1"), SecretStr("w2")), livemode=False
    )


def test_default_may_be_one_of_several() -> None:
    assert set(settings_of(STRIPE_ACCOUNTS='{"default": {"api_key": "k"}}').accounts) == {"default"}


@pytest.mark.parametrize("name", ["STRIPE_API_KEY", "STRIPE_WEBHOOK_SECRET"])
def test_default_may_not_be_named_in_both_places(name: str) -> None:
    problems = problems_of(**{name: "k", "STRIPE_ACCOUNTS": '{"default": {"api_key": "k"}}'})

    assert len(problems) == 1
    assert problems[0].startswith("STRIPE_ACCOUNTS: names `default`")


@pytest.mark.parametrize("slug", ["a", "0", "eu-1_b", "a" * 63])
def test_names_that_an_account_may_have(slug: str) -> None:
    assert set(settings_of(STRIPE_ACCOUNTS=json.dumps({slug: {"api_key": "k"}})).accounts) == {slug}


@pytest.mark.parametrize("slug", ["", "EU", "-a", "_a", "a b", "a/b", "a.b", "é", "a\n", "a" * 64])
def test_names_that_an_account_may_not_have(slug: str) -> None:
    problems = problems_of(STRIPE_ACCOUNTS=json.dumps({slug: {"api_key": "k"}}))

    assert problems == [
        "STRIPE_ACCOUNTS: an account name must be 1–63 characters (a–z, 0–9, `_`, `-`) and begin with a letter or digit"
    ]


def test_named_tokens_have_a_digest_and_a_role() -> None:
    settings = settings_of(TALLYHOOK_TOKENS=json.dumps({"ci": {"sha256": DIGEST.upper(), "role": "admin"}}))

    assert (settings.tokens["ci"].sha256, settings.tokens["ci"].role) == (DIGEST, Role.ADMIN)


@pytest.mark.parametrize("name", ["TALLYHOOK_ADMIN_TOKEN", "TALLYHOOK_READ_TOKEN"])
def test_a_short_token_is_refused(name: str) -> None:
    assert problems_of(**{name: "t" * 31}) == [
        f"{name}: must have at least 32 characters: create one with `openssl rand -hex 32`"
    ]
    assert settings_of(**{name: "t" * 32})


def test_a_token_that_no_header_can_carry_is_refused() -> None:
    assert problems_of(TALLYHOOK_ADMIN_TOKEN="é" * 40)[0].startswith("TALLYHOOK_ADMIN_TOKEN: must be printable")


def test_one_key_may_be_used_for_several_accounts_in_both_modes() -> None:
    accounts = {
        "shop": {"api_key": "rk_live_1", "stripe_account": "acct_1"},
        "shop-tests": {"api_key": "rk_test_1", "stripe_account": "acct_1"},
        "member": {"api_key": "sk_org_live_1", "stripe_context": "acct_2/acct_3"},
    }

    found = settings_of(STRIPE_ACCOUNTS=json.dumps(accounts)).accounts

    assert [(one.livemode, one.named_id, one.headers) for one in found.values()] == [
        (True, "acct_1", {"Stripe-Account": "acct_1"}),
        (False, "acct_1", {"Stripe-Account": "acct_1"}),
        (True, "acct_3", {"Stripe-Context": "acct_2/acct_3"}),
    ]


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"api_key": "sk_org_live_1"}, "needs a `stripe_context`"),
        ({"api_key": "sk_org_live_1", "stripe_account": "acct_1"}, "needs a stripe_context"),
        ({"api_key": "k", "stripe_account": "acct_1", "stripe_context": "acct_1"}, "cannot be used together"),
        ({"api_key": "k", "stripe_account": "acct 1"}, "must be the id of a connected account: acct_…"),
        ({"api_key": "k", "stripe_account": "sk_live_1"}, "stripe_account: must be the id"),
        ({"api_key": "k", "stripe_context": "acct_1\nX: y"}, "stripe_context: must be the account"),
        ({"stripe_account": "acct_1"}, "needs an api_key, webhook_secrets or both"),
    ],
)
def test_a_named_account_that_cannot_be_used_is_refused_at_start(entry: dict[str, str], problem: str) -> None:
    problems = problems_of(STRIPE_ACCOUNTS=json.dumps({"eu": entry}))

    assert len(problems) == 1
    assert problem in problems[0]
    assert "sk_live_1" not in problems[0]


def test_two_names_for_one_connected_account_are_refused() -> None:
    entry = {"api_key": "rk_live_1", "stripe_account": "acct_1"}
    other = {"api_key": "sk_org_live_1", "stripe_context": "acct_1"}

    (problem,) = problems_of(STRIPE_ACCOUNTS=json.dumps({"a": entry, "b": other}))

    assert problem.startswith("STRIPE_ACCOUNTS: two accounts have the same")
