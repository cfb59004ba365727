"""A token for some accounts: no route shows it the others' reports, rules or names."""

import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from starlette.routing import Route

from app.accounts import reconciliations
from app.api.http.tokens import Access
from app.db import alembic_models  # noqa: F401 - its tables belong to the schema too
from app.db.models import Base
from app.db.scoped import CONDITIONS, FOR_EVERYBODY
from app.health.judgements import Judgements
from app.main import build_app
from app.resources import Resources, limited_to, open_resources
from app.simulator import Simulator
from app.web import app as pages
from tests.api.conftest import BASE_URL, bearer
from tests.service import (
    REPORT_TYPE,
    add_rule,
    ask_due,
    at,
    execute,
    fetch,
    make_settings,
    until_found,
    working,
)

# Names that no text of ours contains: an answer with the second one has shown too much.
MINE, OTHERS = "europa", "amerika"
TOKEN = "a-token-for-one-alone-with-32-characters"


@dataclass(frozen=True, slots=True)
class World:
    """Two companies with the same things; the parameters of paths that lead to what is of one of them."""

    res: Resources
    mine: dict[str, str]
    others: dict[str, str]
    all_ids: frozenset[str]  # of the others


@pytest.fixture
async def world(database_url: str, simulator: Simulator) -> AsyncIterator[World]:
    accounts = {}
    for name in (MINE, OTHERS):
        simulator.add_account(name)
        simulator.report_type(REPORT_TYPE, account=name).data_available_end = int(at("2026-03-02").timestamp())
        accounts[name] = {"api_key": simulator.world.account(name).keys[0].secret, "webhook_secrets": [f"whsec_{name}"]}
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    settings = make_settings(
        database_url, simulator, STRIPE_API_KEY="", STRIPE_WEBHOOK_SECRET="", STRIPE_ACCOUNTS=json.dumps(accounts),
        TALLYHOOK_TOKENS=json.dumps({"for europa": {"sha256": digest, "role": "admin", "accounts": [MINE]}}),
        TALLYHOOK_SIGNING_KEY="k" * 32, TALLYHOOK_TARGET_NETWORKS="127.0.0.0/8",
    )  # fmt: skip
    async with open_resources(settings) as res:
        async with admin(res) as api, working(res):
            await until_found(res, "select 1 from report_types having count(distinct account) = 2")
            for targets in ({"accounts": [MINE]}, {"accounts": [OTHERS]}, {"accounts": None}):
                name = f"target-of-{(targets['accounts'] or ['all-amerika'])[0]}"
                asked = {"name": name, "kind": "webhook", "url": "http://127.0.0.1:9/", "message_types": ["*"]}
                (await api.post("/v1/targets", json={**asked, **targets})).raise_for_status()
            for name in (MINE, OTHERS):
                rule = {"name": f"rule-of-{name}", "account": name, "report_type": REPORT_TYPE, "cadence": "daily"}
                (await api.post("/v1/rules", json={**rule, "starts_on": "2026-03-01"})).raise_for_status()
            await until_found(res, "select 1 from loads where state = 'loaded' having count(*) = 2")
            await until_found(res, "select 1 from checks having count(distinct account) = 2")
        for name in (MINE, OTHERS):
            await execute(
                res, "insert into events (account, stripe_event_id, type, payload_sha256, status)"
                " values (:name, :event, 'reporting.report_type.updated', 's', 'failed')", name=name,
                event=f"evt_{name}",
            )  # fmt: skip
        yield World(res, await ids_of(res, MINE), await ids_of(res, OTHERS), await all_ids(res))


async def ids_of(res: Resources, name: str) -> dict[str, str]:
    one = (await fetch(res, """
        select cast(rules.id as text) as rule_id, cast(runs.id as text) as run_id, cast(files.id as text) as file_id,
            cast(loads.table_name as text) as table, cast(checks.id as text) as check_id,
            cast(targets.id as text) as target_id, cast(messages.id as text) as message_id
        from rules join runs on runs.rule_id = rules.id join files on files.run_id = runs.id
        join loads on loads.run_id = runs.id join checks on checks.account = rules.account
        join targets on targets.accounts = array[rules.account] join messages on messages.account = rules.account
        where rules.account = :name limit 1
    """, name=name))[0]  # fmt: skip
    given = {
        "event_id": f"evt_{name}",
        "account": name,
        "date": "2026-03-01",
        "month": "2026-03",
        "day": "2026-03-01",
        "column": "net",
    }
    named = {"rule": one["rule_id"], "run": one["run_id"], "event": f"evt_{name}", "check": one["check_id"]}
    return {**dict(one), **given, **named, "target": one["target_id"], "message": one["message_id"], "name": "app.css"}


async def all_ids(res: Resources) -> frozenset[str]:
    rows = await fetch(res, """
        select cast(id as text) as id from runs where account = :name union select cast(id as text) from rules where
        account = :name union select cast(id as text) from messages where account = :name
        union select cast(id as text) from targets where accounts is null or not 'europa' = any(accounts)
    """, name=OTHERS)  # fmt: skip
    return frozenset(row["id"] for row in rows)


def admin(res: Resources) -> httpx.AsyncClient:
    return client_with(res, res.settings.admin_token.get_secret_value() if res.settings.admin_token else "")


def client_with(res: Resources, token: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(build_app(res), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url=BASE_URL, headers=bearer(token))


RULE = {"name": "new", "report_type": REPORT_TYPE, "cadence": "daily", "starts_on": "2026-03-01", "account": OTHERS}
AD_HOC = {
    "account": OTHERS, "report_type": REPORT_TYPE, "interval_start": "2026-02-27T00:00:00Z",
    "interval_end": "2026-02-28T00:00:00Z",
}  # fmt: skip
TARGET = {"name": "mine", "kind": "webhook", "url": "http://127.0.0.1:9/", "message_types": ["*"]}
OK, NOT_THERE, NOT_ALLOWED, WRONG = {200, 201, 202}, {404}, {403}, {422}
# For every route: what a request about the others' things is answered with (about nothing in particular: 200, and
# the answer holds nothing of theirs), and what it takes beside the path.
CASES: dict[str, tuple[set[int], dict[str, Any]]] = {
    "get /v1/rules.yaml": (OK, {}),
    "post /v1/rules/apply": (WRONG, {"json": {"rules": [RULE]}}),
    "post /v1/rules/preview": (WRONG, {"json": RULE}),
    "post /v1/rules/{rule_id}/backfill": (NOT_THERE, {"json": {"from": "2026-02-01", "to": "2026-02-03"}}),
    "get /v1/rules/{rule_id}/coverage": (NOT_THERE, {}),
    "get /v1/rules/{rule_id}/files/{date}": (NOT_THERE, {}),
    "get /v1/rules": (OK, {}),
    "post /v1/rules": (WRONG, {"json": RULE}),
    "get /v1/rules/{rule_id}": (NOT_THERE, {}),
    "patch /v1/rules/{rule_id}": (NOT_THERE, {"json": {"enabled": False}}),
    "delete /v1/rules/{rule_id}": (NOT_THERE, {}),
    "get /v1/runs": (OK, {}),
    "post /v1/runs": (WRONG, {"json": AD_HOC}),
    "get /v1/runs/{run_id}": (NOT_THERE, {}),
    "post /v1/runs/retry": (OK, {"params": {"state": "failed"}}),
    "post /v1/runs/{run_id}/retry": (NOT_THERE, {}),
    "post /v1/runs/{run_id}/cancel": (NOT_THERE, {}),
    "post /v1/runs/{run_id}/file/remove": (NOT_THERE, {"json": {"reason": "no"}}),
    "get /v1/runs/{run_id}/file": (NOT_THERE, {}),
    "get /v1/packs/{month}.zip": (OK, {"params": {"incomplete": "true"}}),
    "get /v1/report-types": (OK, {}),
    "post /v1/report-types/refresh": (OK, {}),
    "get /v1/report-guide": (WRONG | NOT_THERE, {"params": {"account": OTHERS}}),
    "get /v1/events": (OK, {}),
    "get /v1/events/{event_id}": (NOT_THERE, {}),
    "post /v1/events/{event_id}/replay": (NOT_THERE, {}),
    "get /v1/tables": (OK, {}),
    "get /v1/tables/{table}": (OK, {}),
    "post /v1/tables/{table}/columns/{column}": (NOT_ALLOWED, {"json": {"state": "ignored"}}),
    "get /v1/loads": (OK, {}),
    "post /v1/loads": (NOT_THERE | WRONG, {"json": {"rule": f"rule-of-{OTHERS}"}}),
    "post /v1/runs/{run_id}/load": (NOT_THERE, {}),
    "get /v1/runs/{run_id}/facts": (NOT_THERE, {}),
    "get /v1/runs/{run_id}/rows": (NOT_THERE, {}),
    "get /v1/runs/{run_id}/diff": (NOT_THERE, {}),
    "get /v1/checks": (OK, {"params": {"history": "true"}}),
    "get /v1/checks/{check_id}": (NOT_THERE, {}),
    "post /v1/checks/{check_id}/note": (NOT_THERE, {"json": {"note": "no"}}),
    "get /v1/audit": (OK, {}),
    "get /v1/targets": (OK, {}),
    "post /v1/targets": (NOT_ALLOWED, {"json": TARGET}),
    "get /v1/targets/{target_id}": (NOT_THERE, {}),
    "patch /v1/targets/{target_id}": (NOT_THERE, {"json": {"enabled": False}}),
    "delete /v1/targets/{target_id}": (NOT_THERE, {}),
    "post /v1/targets/{target_id}/test": (NOT_THERE, {}),
    "post /v1/targets/{target_id}/rotate": (NOT_THERE, {}),
    "post /v1/targets/{target_id}/secret": (NOT_THERE, {}),
    "post /v1/targets/{target_id}/recover": (NOT_THERE, {"json": {"since": "2026-01-01T00:00:00Z"}}),
    "get /v1/messages": (OK, {}),
    "get /v1/messages/{message_id}": (NOT_THERE, {}),
    "get /v1/deliveries": (OK, {}),
    "post /v1/deliveries/{message_id}/{target_id}/retry": (NOT_THERE, {}),
    "get /v1/message-types": (OK, {}),
    "get /v1/accounts": (OK, {}),
    "post /v1/accounts": (NOT_ALLOWED, {"json": {"account": "asia", "api_key": "rk_test_1"}}),
    "get /v1/accounts/{account}": (NOT_THERE, {}),
    "patch /v1/accounts/{account}": (NOT_ALLOWED, {"json": {"api_key": "rk_test_1"}}),
    "delete /v1/accounts/{account}": (NOT_ALLOWED, {}),
    "get /v1/connected-accounts": (OK, {}),
    "post /v1/login-links": (OK, {}),
    "get /health": (OK, {}),
    "get /metrics": (NOT_ALLOWED, {}),
}
# Open to everybody, and about nothing but the process; webhooks are signed.
OPEN = {"get /health/live", "get /health/ready", "post /webhooks/stripe", "post /webhooks/stripe/{account}"}


async def test_every_route_of_the_api_has_its_case(world: World) -> None:
    paths = build_app(world.res).openapi()["paths"]

    assert {f"{method} {path}" for path, methods in paths.items() for method in methods} == {*CASES, *OPEN}


async def test_on_every_route_the_others_are_not_there_and_nothing_of_theirs_is_changed(world: World) -> None:
    before = await theirs(world.res)
    found = {}
    async with client_with(world.res, TOKEN) as client:
        for case, (_, how) in CASES.items():
            method, path = case.split(" ")
            answer = await client.request(method, path.format(**world.others), **how)
            found[case] = answer.status_code
            assert_nothing_of_theirs(world, case, answer, asked=json.dumps(how))

    assert {case: status for case, status in found.items() if status not in CASES[case][0]} == {}
    assert await theirs(world.res) == before
    made = await fetch(
        world.res, "select 1 from reconciliations where account = :name and due_at is not null", name=OTHERS
    )
    assert made == [], "a refresh asks about one's own accounts alone"


async def test_what_is_ones_own_is_there(world: World) -> None:
    async with client_with(world.res, TOKEN) as client:
        for case, (allowed, how) in CASES.items():
            method, path = case.split(" ")
            if method == "get" and allowed == NOT_THERE and not path.endswith("/diff"):  # there is one revision
                answer = await client.request(method, path.format(**world.mine), **how)
                assert answer.status_code == 200, (case, answer.text[:300])
        lists = {path: (await client.get(f"/v1/{path}")).json()["data"] for path in LISTS.split()}
        about = {"run_id": world.others["run_id"]}
        theirs_about = (await client.get("/v1/checks", params={**about, "history": "true"})).json()["data"]
        mine = (await client.get(f"/v1/runs/{world.mine['run_id']}")).json()
        health = (await client.get("/health")).json()
        rule = {**RULE, "account": MINE}
        made = await client.post("/v1/rules", json=rule)
        target = await client.post("/v1/targets", json={**TARGET, "accounts": [MINE]})
        widened = await client.patch(f"/v1/targets/{target.json()['id']}", json={"accounts": None})
        others = await client.post("/v1/targets", json={**TARGET, "name": "theirs", "accounts": [MINE, OTHERS]})
        cancelled = await client.post("/v1/runs/retry", params={"state": "cancelled"})

    assert all(lists.values()), {path: len(found) for path, found in lists.items()}
    assert theirs_about == []
    assert {one["account"] for one in mine["checks"]} == {MINE}
    assert [one["name"] for one in health["rules"]] == [f"rule-of-{MINE}"]
    assert (made.status_code, target.status_code, widened.status_code, others.status_code) == (201, 201, 403, 422)
    assert cancelled.status_code == 202


async def test_what_is_left_of_abandoned_downloads_is_shown_to_those_who_see_every_account(world: World) -> None:
    await execute(
        world.res,
        "insert into dropped_objects (location, dropped_at) values ('file:///srv/x.csv', now() - interval '5 hours')",
    )

    said = []
    for caller in (client_with(world.res, TOKEN), admin(world.res)):
        async with caller as client:
            checks = (await client.get("/health")).json()["checks"]
        said += [one["status"] for one in checks if one["name"] == "removed_files"]

    assert said == ["ok", "degraded"]


async def test_a_target_of_all_accounts_is_not_allowed_in_a_file_either(world: World) -> None:
    async with client_with(world.res, TOKEN) as client:
        mine = {"targets": [{**TARGET, "accounts": [MINE]}]}
        made = await client.post("/v1/rules/apply", json=mine)
        for asked in ({}, {"dry_run": True}, {"rules": [RULE]}):
            for target in (TARGET, {**TARGET, "name": "new"}):
                answer = await client.post("/v1/rules/apply", json={"targets": [target], **asked})
                assert answer.status_code == 403, (asked, answer.text)
                assert f"target {target['name']!r} without `accounts`" in answer.json()["detail"]
        same = await client.post("/v1/rules/apply", json=mine)

    assert (made.status_code, same.json()["unchanged"]) == (200, 1)
    assert await fetch(world.res, "select accounts from targets where name in ('mine', 'new')") == [
        {"accounts": [MINE]}
    ]


async def test_a_name_that_another_account_uses_is_refused_with_that_reason(world: World) -> None:
    before = await theirs(world.res)
    rule = {**RULE, "account": MINE}
    target = {**TARGET, "accounts": [MINE]}
    refused = []
    async with client_with(world.res, TOKEN) as client:
        own = {
            kind: (await client.post(f"/v1/{kind}", json={**values, "name": "own"})).json()["id"]
            for kind, values in (("rules", rule), ("targets", target))
        }
        for kind, values, taken in (
            ("rules", rule, f"rule-of-{OTHERS}"),
            ("targets", target, f"target-of-{OTHERS}"),
            ("targets", target, "target-of-all-amerika"),
        ):
            refused.append((409, await client.post(f"/v1/{kind}", json={**values, "name": taken})))
            refused.append((409, await client.patch(f"/v1/{kind}/{own[kind]}", json={"name": taken})))
            several = [{**values, "name": name} for name in ("another", taken, "own", "z-further")]
            for asked in ({}, {"dry_run": True}):
                refused.append((422, await client.post("/v1/rules/apply", json={kind: several, **asked})))
        kept = (await client.get("/v1/rules.yaml")).text

    for status, answer in refused:
        assert answer.status_code == status, answer.text
        assert "already exists: names are unique across all accounts" in answer.json()["detail"]
    assert "another" not in kept
    assert await theirs(world.res) == before


LISTS = "rules runs events loads checks audit targets messages deliveries accounts report-types"


async def test_what_it_causes_is_announced_to_targets_of_all_accounts_too(world: World) -> None:
    await execute(world.res, "delete from deliveries")
    async with client_with(world.res, TOKEN) as client:
        answer = await client.post("/v1/runs", json={**AD_HOC, "account": MINE})
        await client.post(f"/v1/runs/{answer.json()['id']}/cancel")

    told = await fetch(
        world.res, "select targets.name from deliveries join targets on targets.id = target_id order by name"
    )
    assert [row["name"] for row in told] == ["target-of-all-amerika", f"target-of-{MINE}"]


# Pages that are about nobody's things in particular, and what they say; `retry` only asks whether one is sure.
PAGES = {
    "GET /setup": NOT_ALLOWED,
    "GET /months/{month}": OK,
    "GET /months/{month}/pack.zip": {409},  # of the present month, which is not complete
    "GET /tables/{table}": OK,
    "GET /tables/{table}/columns/{column}/approve": OK,  # only asks, as the next one does: the answer is refused
    "GET /tables/{table}/columns/{column}/ignore": OK,
    "GET /static/{name}": OK | NOT_THERE,
    "GET /deliveries/{message:uuid}/{target:uuid}/retry": OK,
}
FORM = {"note": "no", "from": "2026-02-01", "through": "2026-02-02", "do": "save", "version": "1"}


async def test_a_session_from_such_a_token_sees_no_more_on_any_page(world: World) -> None:
    before = await theirs(world.res)
    app = pages.build_pages(world.res, Access(world.res.settings), Judgements())
    routes = routes_of(app)
    assert len(routes) > 50
    found: dict[str, int] = {}
    transport = httpx.ASGITransport(build_app(world.res), raise_app_exceptions=False)
    browser = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin"}
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=browser) as client:
        answer = await client.post("/login", data={"token": TOKEN})
        assert answer.headers["location"].startswith("/login/done")
        for method, path in routes:
            if path in ("/logout", "/login"):
                continue
            address = path.replace(":uuid", "").replace(":int", "").format(**world.others)
            answer = await client.request(method, address, data=FORM if method == "POST" else None)
            found[f"{method} {path}"] = answer.status_code
            assert_nothing_of_theirs(world, f"{method} {path}", answer, asked=address)

    assert await theirs(world.res) == before
    about_theirs = {case for case in found if "{" in case and case not in PAGES}
    assert {case: found[case] for case in about_theirs if found[case] not in (404, 403)} == {}
    assert {case: found[case] for case, allowed in PAGES.items() if found[case] not in allowed} == {}


def routes_of(pages: Any) -> list[tuple[str, str]]:
    app = pages({"type": "http", "path": "/rules", "headers": []}, httpx.Headers({"accept": "text/html"}))
    return [
        (method, route.path) for route in app.routes if isinstance(route, Route)
        for method in sorted((route.methods or set()) - {"HEAD"})
    ]  # fmt: skip


def assert_nothing_of_theirs(world: World, case: str, answer: httpx.Response, *, asked: str) -> None:
    shown = [word for word in (OTHERS, *world.all_ids) if word in answer.text and word not in asked]
    if answer.status_code in (404, 422, 403):  # a refusal may repeat what was requested
        shown = [word for word in shown if word not in str(answer.request.url)]
    assert shown == [], (case, answer.status_code, answer.text[:500])


async def theirs(res: Resources) -> list[Any]:
    """Every row of the others that a request could change."""
    tables = ["rules", "runs", "events", "loads", "messages", "accounts", "targets", "checks", "check_notes", "audit"]
    found = []
    for table in tables:
        key = {"accounts": "slug = :name", "targets": "accounts is null or :name = any(accounts)"}.get(
            table, "account = :name"
        )
        if table in ("check_notes", "audit"):
            key = "cast(t as text) like '%amerika%' and :name <> ''"
        found.append(
            sorted(str(row) for row in await fetch(res, f"select t::text from {table} as t where {key}", name=OTHERS))
        )
    return found


def test_every_table_says_who_sees_its_rows() -> None:
    of_account = {table.name for table in Base.metadata.tables.values() if "account" in table.c}
    every = {table.name for table in Base.metadata.tables.values()}

    assert every - of_account - CONDITIONS.keys() - FOR_EVERYBODY == set()
    assert FOR_EVERYBODY & (of_account | CONDITIONS.keys()) == set()


async def test_not_even_a_statement_that_names_another_account_reaches_it(world: World) -> None:
    limited = limited_to(world.res, frozenset({MINE}))
    async with limited.sessions.begin() as session:
        await reconciliations.make_due(session, MINE, OTHERS)
    assert await ask_due(world.res) == 1
    with pytest.raises(Exception, match="check option"):
        await execute(limited, "insert into report_types (account, id) values (:name, 'x')", name=OTHERS)
    await add_rule(world.res, name="third", account=OTHERS)
    assert await fetch(limited, "select 1 from rules where name = 'third'") == []
