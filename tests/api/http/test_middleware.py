"""What holds for every request: its id, the limit on its body, and errors as problems."""

import json
from typing import Any

import httpx
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.api.http.paging import make_cursor
from app.resources import Resources
from app.rules import store
from tests.service import add_rule


def is_problem(answer: httpx.Response, status: int) -> bool:
    body = answer.json()
    assert {"type", "title", "status", "detail"} <= set(body)
    return bool(answer.status_code == status == body["status"] and body["type"] == "about:blank")


async def test_every_answer_has_an_id_and_a_sane_one_from_the_request_is_kept(nobody: httpx.AsyncClient) -> None:
    own = [(await nobody.get("/health/live")).headers["x-request-id"] for _ in range(2)]
    given = [
        (await nobody.get("/v1/rules", headers={"X-Request-Id": sent})).headers["x-request-id"]
        for sent in ("trace-1.a_b", "no spaces", "x" * 65)
    ]

    assert len({*own, *given}) == 5
    assert given[0] == "trace-1.a_b"
    assert set(given[1:]).isdisjoint({"no spaces", "x" * 65})


async def test_a_body_over_the_limit_is_refused_announced_or_not(res: Resources, api: httpx.AsyncClient) -> None:
    big = b'{"name": "' + b"x" * res.settings.max_body_bytes + b'"}'

    async def pieces() -> Any:
        for start in range(0, len(big), 65536):
            yield big[start : start + 65536]

    assert is_problem(await api.post("/v1/rules", content=big), 413)
    assert is_problem(await api.post("/v1/rules", content=pieces()), 413)


UNKNOWN = "01a1fc8f-3f8a-7128-9132-0f4c9613f5cb"
NOT_FOUND = [
    "nothing", "rules/", "runs/no-uuid", "runs/%00", f"runs/{UNKNOWN}", f"runs/{UNKNOWN}/file", f"rules/{UNKNOWN}",
    "events/0", "events/99999999999999999999", "events/evt_1", "events/%00",
]  # fmt: skip
BAD_FILTERS = [
    "runs?state=done", "runs?unknown=1", "runs?limit=0", "runs?limit=101", "runs?account=%00", "runs?rule_id=1",
    "runs?report_type=x", "runs?connected_account=1", "runs?cursor=x", "runs?cursor=%C3%A4", "rules?cursor=cnVucwox",
    "report-types?cursor=cnVucwox", "events?cursor=ZXZlbnRzCng", "events?status=odd", "rules?state=stored",
]  # fmt: skip


async def test_a_wrong_request_is_answered_with_what_is_wrong(api: httpx.AsyncClient) -> None:
    for status, paths in ((404, NOT_FOUND), (422, BAD_FILTERS)):
        for path in paths:
            assert is_problem(await api.get(f"/v1/{path}"), status), path


AT_THE_EDGES = [
    "rules/daily/files/0001-01-01", "rules/daily/files/9999-12-31", "rules/daily/files/9999-12-31T23:59:59Z",
    *(f"rules/{rule}/files/{time}" for rule in ("daily", "weekly", "monthly", "quarterly", "yearly", "updates")
      for time in ("0002-01-01T00:00:00Z", "0050-01-01T00:00:00Z", "1970-01-01T00:59:59+01:00")),
    *(f"runs?order=stored&cursor={make_cursor('runsstored', moment, UNKNOWN)}" for moment in (
        "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-03-01T00:00:00",
    )),
    *(f"rules/{rule}/coverage?cursor={make_cursor('coverage', moment, account)}" for rule, moment, account in (
        ("daily", "0001-01-01T00:00:00+00:00", ""), ("daily", "9999-12-31T23:59:59.9+00:00", ""),
        ("daily", "2026-03-01T00:00:00", ""), ("updates", "2026-03-01T00:00:00+00:00", "\0"),
    )),
    f"accounts?cursor={make_cursor('accounts', chr(0))}",
    f"report-types?cursor={make_cursor('report-types', 'a', chr(0))}",
    f"connected-accounts?cursor={make_cursor('connected-accounts', 'default', chr(0))}",
]  # fmt: skip


async def test_what_no_clock_or_database_can_hold_is_bad_input(res: Resources, api: httpx.AsyncClient) -> None:
    await add_rule(res, name="daily", timezone="Asia/Tokyo")
    await add_rule(res, name="updates", cadence="every_update")
    for cadence in ("weekly", "monthly", "quarterly", "yearly"):
        await add_rule(res, name=cadence, cadence=cadence)

    for path in AT_THE_EDGES:
        assert is_problem(await api.get(f"/v1/{path}"), 422), path


async def test_a_wrong_method_is_answered_with_all_methods_of_the_path(api: httpx.AsyncClient) -> None:
    answer = await api.put("/v1/rules")

    assert is_problem(answer, 405)
    assert answer.headers["allow"] == "GET, POST"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (OperationalError("select 1", {}, psycopg.OperationalError("secret address")), 503),
        (InterfaceError("select 1", {}, psycopg.InterfaceError("secret address")), 503),
        (PoolTimeout("secret address"), 503),
        (psycopg.OperationalError("secret address"), 503),
        (psycopg.errors.AdminShutdown("secret address"), 503),
        (psycopg.errors.UniqueViolation("secret address"), 409),
        (psycopg.errors.UndefinedTable("secret address"), 500),
        (RuntimeError("secret address"), 500),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_an_error_within_shows_nothing_of_itself(
    res: Resources, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise error

    rule = await add_rule(res)
    monkeypatch.setattr(store, "get", fail)

    answer = await api.get(f"/v1/rules/{rule.id}")

    assert is_problem(answer, status)
    assert "secret" not in answer.text
    assert answer.headers["x-request-id"]


leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just("\x00"), st.just("\ud800"),
    st.sampled_from(["daily", "a.b", "default", "2026-01-01", "UTC", "acct_1", "Europe/Berlin"]),
)  # fmt: skip
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | leaves.map(str), inner, max_size=3)
    ),
    max_leaves=10,
)
fields = st.sampled_from([
    "name", "account", "report_type", "enabled", "cadence", "timezone", "starts_on", "settle_hours", "parameters",
    "connected_accounts", "retention_days", "\ud800",
])  # fmt: skip


@settings(max_examples=300)
@given(changes=st.dictionaries(fields, values, max_size=4), number=st.integers(0, 10**9))
async def test_no_json_makes_a_rule_fail(api: httpx.AsyncClient, changes: dict[str, Any], number: int) -> None:
    usual = {"name": f"rule {number}", "report_type": "a.b", "cadence": "daily"}

    answer = await api.post("/v1/rules", content=json.dumps({**usual, **changes}).encode())

    assert answer.status_code in (201, 409, 422), answer.text
    assert answer.headers["content-type"].startswith("application/")
    json.loads(answer.content)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"\xff", b'"\\ud800"', b"[" * 100_000, b'{"name": ' + b"1" * 5000 + b"}", b"{} {}"],
    ids=["nothing", "half", "list", "null", "not UTF-8", "half a pair", "deep", "long number", "two"],
)
async def test_a_body_that_is_not_a_json_object_is_bad_input(api: httpx.AsyncClient, body: bytes) -> None:
    answer = await api.post("/v1/rules", content=body)

    assert is_problem(answer, 422)
    assert answer.json()["errors"][0]["detail"]


async def test_the_description_names_every_webhook_and_every_problem(nobody: httpx.AsyncClient) -> None:
    document = (await nobody.get("/openapi.json")).json()
    page = (await nobody.get("/docs")).text

    assert set(document["paths"]["/webhooks/stripe/{account}"]["post"]["responses"]) == {
        "200", "400", "404", "405", "413", "503",
    }  # fmt: skip
    schemas = document["components"]["schemas"]
    assert {"Problem", "RuleIn", "RunOut"} <= set(schemas)
    assert "HTTPValidationError" not in schemas
    assert "/webhooks/stripe/{account}" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "<script" not in page
