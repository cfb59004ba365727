"""Canaries in every place where a secret or a customer's data enters; then all output is searched.

The service runs in this process, with the most verbose log; commands run as users start them.
"""

import json
import logging
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest

from app.observability.logs import configure_logs
from app.resources import Resources
from app.rules import schedule
from app.runs import lookup
from app.serving import running
from app.settings import Settings
from app.simulator import Simulator
from app.simulator.webhooks.signatures import signature_header
from tests.api.deliveries import event as a_report_type_event
from tests.cli.command import tallyhook
from tests.observability.collector import collecting
from tests.service import REPORT_TYPE, add_rule, at, execute, fetch, make_environ, until_found
from tests.worker.workers import until_stored

SECRETS = {
    "STRIPE_API_KEY": "rk_test_canary1KeyOfTheAccount",
    "STRIPE_WEBHOOK_SECRET": "canary2-a-signing-secret-without-its-prefix",
    "TALLYHOOK_ADMIN_TOKEN": "canary3-admin-token-of-at-least-32-characters",
    "TALLYHOOK_READ_TOKEN": "canary4-read-token-of-at-least-32-characters!",
}
USER = f"somebody_{uuid.uuid4().hex}"
PASSWORD = "canary5/pass word+"
HEADERS = "x-vendor-key=canary6-the-key-of-a-vendor"
STORE = "canary9-the-key-of-an-object-store"
CUSTOMER = "canary7.customer@example.com"
TOLD = "canary8-in-an-event-of-ours"  # is kept with the event, and is to be seen nowhere else
EVERYWHERE = "canary"
RIGHT = {"Authorization": f"Bearer {SECRETS['TALLYHOOK_ADMIN_TOKEN']}"}

LOUD = ("", "httpx", "httpcore", "stripe", "sqlalchemy", "sqlalchemy.pool", "psycopg", "asyncio", "uvicorn.error")


def with_password(url: str) -> str:
    """The URL of the test's database, for a user who has a password."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"{USER}:{quote(PASSWORD, safe='')}@{parts.netloc.split('@')[-1]}").geturl()


@pytest.fixture
async def environ(res: Resources, database_url: str, simulator: Simulator) -> dict[str, str]:
    """Settings that are secrets wherever they can be."""
    await execute(res, f"create role {USER} superuser login password '{PASSWORD}'")
    simulator.add_key(SECRETS["STRIPE_API_KEY"])
    return {**make_environ(with_password(database_url), simulator, TALLYHOOK_PENDING_POLL_SECONDS=1), **SECRETS}


def event(type_: str, about: Mapping[str, Any], *, id_: str) -> bytes:
    first = {"canary": TOLD} if type_.startswith("reporting.") else {"canary": CUSTOMER}
    body = {**first, "id": id_, "object": "event", "type": type_, "created": 1, "livemode": False}
    return json.dumps({**body, "data": {"object": {**about, "email": CUSTOMER}}}).encode()


async def deliver(client: httpx.AsyncClient, body: bytes, *, secret: str) -> httpx.Response:
    header = signature_header(body, [secret], at=int(time.time()))
    return await client.post("/webhooks/stripe", content=body, headers={"Stripe-Signature": header})


async def ask_everything(client: httpx.AsyncClient) -> list[str]:
    """What the service says when it is asked rightly, wrongly, and with secrets where they do not belong."""
    right, read = (f"Bearer {SECRETS[f'TALLYHOOK_{name}_TOKEN']}" for name in ("ADMIN", "READ"))
    paths = ["/health", "/health/ready", "/metrics", "/openapi.json", "/docs", "/v1/rules", "/v1/runs", "/v1/events"]
    paths += ["/v1/audit", "/v1/report-types", "/v1/runs?cursor=x", "/v1/no-such-thing", f"/v1/rules/{quote(read)}"]
    answers = [await client.get(path, headers={"Authorization": right}) for path in paths]
    answers += [await client.get("/v1/rules", headers={"Authorization": f"{right}x"})]
    answers += [await client.get("/v1/rules", headers={"Authorization": right, "X-Request-Id": right.split()[1]})]
    answers += [await client.post("/v1/rules", headers={"Authorization": read}, json={})]
    answers += [await client.post("/v1/rules", headers={"Authorization": right}, json={SECRETS["STRIPE_API_KEY"]: 1})]
    answers += [await client.post("/v1/rules", headers={"Authorization": right}, content=SECRETS["STRIPE_API_KEY"])]
    for run in (await client.get("/v1/runs", headers={"Authorization": right})).json()["data"]:
        answers.append(await client.get(f"/v1/runs/{run['id']}", headers={"Authorization": right}))
    return [f"{answer.headers} {answer.text}" for answer in answers]


async def all_rows(res: Resources) -> list[str]:
    """Every row of every table; without file bytes, and without what Stripe signed, which is kept as it came."""
    tables = await fetch(res, "select table_name as name from information_schema.tables where table_schema = 'public'")
    found = []
    for table in tables:
        kept = "to_jsonb(t) - 'payload' - 'data'"
        rows = await fetch(res, f"select ({kept})::text as row from {table['name']} as t")
        found += [f"{table['name']} {row['row']}" for row in rows]
    return found


async def break_things(res: Resources, client: httpx.AsyncClient, simulator: Simulator) -> None:
    """Stripe's errors echo the key; and errors of our own hold every secret there is."""
    key = SECRETS["STRIPE_API_KEY"]
    simulator.inject("status", status=401, message=f"Invalid API Key: {key}", match={"path": "/contents$"}, times=None)
    await ask_for_a_run(client)
    await until_found(res, "select 1 from account_holds")
    simulator.inject("status", status=400, message=f"No such column {key}", match={"method": "POST"})
    await ask_for_a_run(client)
    await until_found(res, "select 1 from runs where error ->> 'kind' = 'rejected'")
    simulator.inject("event_lost", times=None)
    simulator.inject("status", status=404, message=f"No run for {key}", match={"path": "report_runs/frr"}, times=None)
    await ask_for_a_run(client)
    await until_found(res, "select 1 from runs where error ->> 'kind' = 'internal'")
    await until_found(res, "select 1 from events where reason like 'RuntimeError%'")


def crash_with_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = " ".join([*SECRETS.values(), STORE, HEADERS.split("=")[1], PASSWORD, quote(PASSWORD, safe="")])

    async def crash(*_: Any, **__: Any) -> None:
        raise RuntimeError(f"crashed with {secrets}")

    monkeypatch.setattr(schedule, "record_availability", crash)
    monkeypatch.setattr(lookup, "_give_up", crash)


async def ask_for_a_run(client: httpx.AsyncClient) -> None:
    interval = {"interval_start": "2026-03-01T00:00:00Z", "interval_end": "2026-03-02T00:00:00Z"}
    await client.post("/v1/runs", headers=RIGHT, json={"report_type": REPORT_TYPE, **interval})


async def test_no_canary_comes_out_anywhere(
    environ: dict[str, str],
    simulator: Simulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    logging_as_it_was: None,
    capfd: pytest.CaptureFixture[str],
) -> None:
    settings = load(environ)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", HEADERS)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", STORE)
    configure_logs(json=True, secrets=settings.secret_values())
    for name in LOUD:
        logging.getLogger(name).setLevel(logging.DEBUG)
    came_out: dict[str, list[str]] = {}

    with collecting(monkeypatch) as collector:
        async with running(settings) as service:
            res = service.res
            # Given a report that arrives
            await add_rule(res)
            simulator.add_endpoint(f"{service.url}/webhooks/stripe", secrets=[SECRETS["STRIPE_WEBHOOK_SECRET"]])
            simulator.advance(REPORT_TYPE, to=at("2026-03-03"))
            await until_stored(res, 2)
            # When everything goes wrong
            crash_with_secrets(monkeypatch)
            async with httpx.AsyncClient(base_url=str(service.url), timeout=30, trust_env=False) as client:
                came_out["answers"] = await misuse(res, client)
                await break_things(res, client, simulator)
                came_out["answers"] += await ask_everything(client)
            came_out["rows"] = await all_rows(res)
        files = [b"".join(file.content.chunks()).decode() for file in simulator.files]
        came_out["traces"] = [body.decode(errors="replace") for body in collector.bodies]
    came_out["commands"] = await commands(environ, tmp_path)
    came_out["log"] = [capfd.readouterr().err]

    # Then nothing of it shows
    lines = {line for file in files for line in file.splitlines()[1:] if len(line) > 40}
    assert files
    log = came_out["log"][0]
    for exercised in ("No run for [redacted]", "crashed with [redacted]", "Failing row contains [redacted]"):
        assert exercised in log
    for where, texts in came_out.items():
        for said in texts:
            assert EVERYWHERE not in said, f"{where}: {around(said, EVERYWHERE)}"
            assert not any(line in said for line in lines), f"{where} holds a line of a file"


def load(environ: Mapping[str, str]) -> Settings:
    from app.settings import load_settings

    return load_settings(environ, env_file=None)


def around(said: str, word: str) -> str:
    place = said.index(word)
    return said[max(0, place - 300) : place + 200]


async def misuse(res: Resources, client: httpx.AsyncClient) -> list[str]:
    """Deliveries that are wrong in every way, and a database that refuses."""
    secret = SECRETS["STRIPE_WEBHOOK_SECRET"]
    customer = event("customer.created", {"id": "cus_1"}, id_="evt_customer")
    about = a_report_type_event()["data"]["object"]
    told = event("reporting.report_type.updated", about, id_="evt_told")
    refused = event("reporting.report_type.updated", about | {"id": "refused.1"}, id_="evt_refused")
    answers = [
        await deliver(client, customer, secret=secret),
        await deliver(client, customer, secret="another"),
        await deliver(client, customer[:-1], secret=secret),
        await deliver(client, customer.replace(b"event", b"thing"), secret=secret),
        await deliver(client, told, secret=secret),
    ]
    await execute(res, "alter table events add constraint no check (object_id <> 'refused.1') not valid")
    answers.append(await deliver(client, refused, secret=secret))
    await execute(res, "alter table rules rename column timezone to zone")
    rule = {"name": "mine", "report_type": REPORT_TYPE, "cadence": "daily", "parameters": {"x": CUSTOMER}}
    answers.append(await client.post("/v1/rules", headers=RIGHT, json=rule))
    await execute(res, "alter table rules rename column zone to timezone")
    assert [answer.status_code for answer in answers] == [200, 400, 400, 400, 200, 503, 500]
    return [f"{answer.headers} {answer.text}" for answer in answers]


async def commands(environ: dict[str, str], folder: Path) -> list[str]:
    away = {**environ, "DATABASE_URL": f"postgresql://u:{quote(PASSWORD, safe='')}@127.0.0.1:1/none"}
    malformed = {**environ, "DATABASE_URL": f"postgresql://u:{PASSWORD}@host:x/none"}
    ended = [
        await tallyhook("doctor", environ=environ, folder=folder),
        await tallyhook("runs", "list", "--json", environ=environ, folder=folder),
        await tallyhook("migrate", environ=away, folder=folder),
        await tallyhook("serve", environ=malformed, folder=folder),
    ]
    return [one.out + one.errors for one in ended]
