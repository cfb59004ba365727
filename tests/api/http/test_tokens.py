"""Who may pass: tokens, their roles, and how everybody else is refused."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
import pytest
from fastapi import FastAPI

from app.api.http import middleware, tokens
from app.main import build_app
from app.resources import Resources
from app.settings import load_settings
from tests.api.conftest import BASE_URL, bearer, client_of
from tests.service import ADMIN_TOKEN, READ_TOKEN

NAMED_TOKEN = "n-token-for-tests-of-40-characters-here!"


def routes_of(app: FastAPI) -> list[tuple[str, str]]:
    """Every described route, with ids that nothing has."""
    paths = app.openapi()["paths"]
    return [(method.upper(), path.replace("{", "").replace("}", "")) for path in paths for method in paths[path]]


def is_open(path: str) -> bool:
    return path in middleware.OPEN_PATHS or path.startswith(middleware.OPEN_PREFIX)


@asynccontextmanager
async def with_settings(res: Resources, **changes: object) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a token of an app with other tokens."""
    settings = load_settings({name: str(value) for name, value in changes.items()}, env_file=None)
    app = build_app(replace(res, settings=settings))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE_URL) as client:
        yield client


async def test_every_route_but_the_open_ones_refuses_without_a_token(res: Resources, nobody: httpx.AsyncClient) -> None:
    routes = [(method, path) for method, path in routes_of(build_app(res)) if not is_open(path)]
    assert len(routes) > 10

    for method, path in [*routes, ("GET", "/v1/no-such-route"), ("GET", "/v2")]:
        answer = await nobody.request(method, path)
        assert answer.status_code == 401, (method, path)
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.headers["content-type"] == "application/problem+json"


async def test_open_routes_answer_anybody(nobody: httpx.AsyncClient) -> None:
    answers = [await nobody.get(path) for path in ("/health/live", "/health/ready", "/openapi.json", "/docs")]

    assert [answer.status_code for answer in answers] == [200, 503, 200, 200]  # no worker runs beside this test


async def test_the_read_token_reads_and_writes_nothing(res: Resources) -> None:
    app = build_app(res)
    async with client_of(res, READ_TOKEN) as reader:
        for method, path in routes_of(app):
            answer = await reader.request(method, path)
            writes = method != "GET" and path not in middleware.READING_POSTS and not is_open(path)
            assert (answer.status_code == 403) == writes, (method, path)
        assert (await reader.get("/v1/rules")).status_code == 200


async def test_a_header_that_is_not_a_bearer_token_counts_as_none(nobody: httpx.AsyncClient) -> None:
    odd = (
        "",
        "Bearer",
        "Bearer ",
        f"Basic {ADMIN_TOKEN}",
        ADMIN_TOKEN,
        f"Bearer {ADMIN_TOKEN} x",
        f"Bearer,{ADMIN_TOKEN}",
    )
    for header in odd:
        answer = await nobody.get("/v1/rules", headers={"Authorization": header})
        assert answer.status_code == 401, header


async def test_a_wrong_token_is_refused_and_counted(res: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "WRONG_TOKEN_SECONDS", 0.0)
    app = build_app(res)
    wrong = ("wrong", ADMIN_TOKEN[:-1], ADMIN_TOKEN + "x", ADMIN_TOKEN.upper(), "x" * 10_000)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE_URL) as client:
        for token in wrong:
            answer = await client.get("/v1/rules", headers=bearer(token))
            assert answer.status_code == 401, token
            assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
            assert token not in answer.text

    assert app.state.access.refused == {"wrong_token": len(wrong)}


async def test_bytes_that_are_not_text_are_a_wrong_token(
    nobody: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "WRONG_TOKEN_SECONDS", 0.0)

    answer = await nobody.get("/v1/rules", headers=[(b"Authorization", b"Bearer \xff\xfe\x80")])

    assert answer.status_code == 401


async def test_while_wrong_tokens_wait_a_right_one_passes(res: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "WRONG_TOKEN_SECONDS", 3600.0)
    async with client_of(res) as client:
        guessing = [asyncio.create_task(client.get("/v1/rules", headers=bearer(f"guess{n}"))) for n in range(20)]
        await asyncio.sleep(0)

        assert (await client.get("/v1/rules")).status_code == 200
        assert not any(guess.done() for guess in guessing)

        for guess in guessing:
            guess.cancel()
        await asyncio.gather(*guessing, return_exceptions=True)


async def test_only_so_many_wrong_tokens_wait_at_once(res: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "WRONG_TOKEN_SECONDS", 3600.0)
    monkeypatch.setattr(tokens, "MOST_SLOWED", 0)
    async with client_of(res, "guess") as client:
        assert (await client.get("/v1/rules")).status_code == 401


@pytest.mark.parametrize(("role", "status"), [("admin", 202), ("read", 403)])
async def test_a_named_token_has_the_role_that_it_was_given(res: Resources, role: str, status: int) -> None:
    digest = hashlib.sha256(NAMED_TOKEN.encode()).hexdigest()
    tokens = json.dumps({"ci": {"sha256": digest, "role": role}})
    async with with_settings(res, TALLYHOOK_ADMIN_TOKEN=ADMIN_TOKEN, TALLYHOOK_TOKENS=tokens) as client:
        answer = await client.post("/v1/report-types/refresh", headers=bearer(NAMED_TOKEN))

    assert answer.status_code == status


async def test_without_an_admin_token_everybody_is_refused_with_what_to_set(res: Resources) -> None:
    async with with_settings(res, TALLYHOOK_READ_TOKEN=READ_TOKEN) as client:
        answers = [await client.get("/v1/rules", headers=bearer(token)) for token in (READ_TOKEN, "", "None")]

    assert {answer.status_code for answer in answers} == {401}
    assert all("TALLYHOOK_ADMIN_TOKEN" in answer.json()["detail"] for answer in answers)


async def test_the_token_is_checked_before_the_body(nobody: httpx.AsyncClient) -> None:
    assert (await nobody.post("/v1/rules", content=b"no JSON")).status_code == 401
