"""Who may look at the pages: login by token, by link and by a proxy; how sessions end; which forms are accepted."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx
import pytest

from app.resources import Resources, open_resources
from app.simulator import Simulator
from app.web import login
from tests.api.conftest import client_of
from tests.service import ADMIN_TOKEN, READ_TOKEN, execute, fetch, make_settings
from tests.web.visiting import HERE, PROXY, heading, log_in, submit, visitor


@asynccontextmanager
async def service_with(database_url: str, simulator: Simulator, **settings: object) -> AsyncIterator[Resources]:
    async with open_resources(make_settings(database_url, simulator, **settings)) as res:
        yield res


async def test_a_page_leads_to_the_login_and_from_there_back_to_the_page(res: Resources) -> None:
    async with visitor(res) as client:
        asked = await client.get("/runs?state=failed")
        assert asked.status_code == 303
        assert asked.headers["location"] == "/login?next=%2Fruns%3Fstate%3Dfailed"

        entered = await log_in(client, next="/runs?state=failed")
        checked = await client.get(entered.headers["location"])

        assert checked.headers["location"] == "/runs?state=failed"
        assert heading(await client.get("/runs?state=failed")) == "Runs"


async def test_the_browser_never_holds_the_token_and_the_database_never_the_session(res: Resources) -> None:
    async with visitor(res) as client:
        answer = await log_in(client)

    cookie = answer.headers["set-cookie"]
    session_id = client.cookies["tallyhook"]
    (row,) = await fetch(res, "select * from web_sessions")
    assert ADMIN_TOKEN not in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert session_id not in str(dict(row))
    assert (row["name"], row["role"]) == ("admin", "admin")
    assert [entry["action"] for entry in await fetch(res, "select action from audit")] == ["session.began"]


async def test_over_https_the_cookie_is_of_this_host_and_secure(database_url: str, simulator: Simulator) -> None:
    async with (
        service_with(database_url, simulator, TALLYHOOK_PUBLIC_URL="https://reports.example.com") as res,
        visitor(res, base_url="https://reports.example.com") as client,
    ):
        cookie = (await log_in(client)).headers["set-cookie"]

    assert cookie.startswith("__Host-tallyhook=")
    assert "Secure" in cookie
    assert "Path=/;" in cookie


async def test_a_wrong_token_is_slowed_down_and_the_page_names_the_settings(
    res: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.api.http.tokens.WRONG_TOKEN_SECONDS", 0.001)
    async with visitor(res) as client:
        answer = await log_in(client, "x" * 40)

    assert answer.status_code == 401
    assert login._WRONG in answer.text.replace("&#39;", "'")
    assert "set-cookie" not in answer.headers


async def test_logging_out_ends_the_session_for_a_copied_cookie_too(res: Resources) -> None:
    async with visitor(res) as client, visitor(res) as thief:
        await log_in(client)
        thief.cookies.set("tallyhook", client.cookies["tallyhook"], domain="127.0.0.1")
        assert (await thief.get("/runs")).status_code == 200

        await submit(client, "/logout")

        assert (await thief.get("/runs")).status_code == 303
        assert await fetch(res, "select 1 from web_sessions") == []


async def test_a_session_expires(res: Resources) -> None:
    async with visitor(res) as client:
        await log_in(client)
        await execute(res, "update web_sessions set expires_at = now() - interval '1 second'")

        assert (await client.get("/runs")).status_code == 303


async def test_a_session_ends_when_its_token_leaves_the_settings(database_url: str, simulator: Simulator) -> None:
    async with service_with(database_url, simulator) as res, visitor(res) as client:
        await log_in(client, READ_TOKEN)
        session_id = client.cookies["tallyhook"]

    other = {"TALLYHOOK_READ_TOKEN": "another-" + READ_TOKEN}
    async with service_with(database_url, simulator, **other) as res, visitor(res) as client:
        client.cookies.set("tallyhook", session_id, domain="127.0.0.1")
        assert (await client.get("/runs")).status_code == 303


async def test_the_api_never_reads_a_cookie(res: Resources) -> None:
    async with visitor(res) as client:
        await log_in(client)

        for method, path in (("GET", "/v1/rules"), ("POST", "/v1/report-types/refresh"), ("GET", "/health")):
            assert (await client.request(method, path)).status_code == 401, path


async def test_a_link_logs_in_once_by_its_button_and_opening_it_spends_nothing(res: Resources) -> None:
    async with client_of(res) as api, visitor(res) as client, visitor(res) as late:
        asked = await api.post("/v1/login-links", json={"name": "anna", "role": "read"})
        assert asked.headers["location"] == asked.json()["url"]
        url = asked.json()["url"].removeprefix("http://tallyhook.test")
        link = url.partition("link=")[2]
        for _ in range(2):
            assert heading(await client.get(url)) == "Log in as anna"

        entered = await submit(client, "/login", link=link)
        again = await submit(late, "/login", link=link)

        assert entered.status_code == 303
        assert again.status_code == 401
        assert "anna (read only)" in (await client.get("/")).text
        assert [entry["actor"] for entry in await fetch(res, "select actor from audit order by id")] == [
            "admin",
            "anna",
        ]


async def test_an_old_link_logs_nobody_in(res: Resources) -> None:
    async with client_of(res) as api, visitor(res) as client:
        link = (await api.post("/v1/login-links")).json()["url"].partition("link=")[2]
        await execute(res, "update login_links set expires_at = now() - interval '1 second'")

        assert (await submit(client, "/login", link=link)).status_code == 401
        assert login._SPENT in (await client.get(f"/login?link={link}")).text


async def test_a_session_by_a_link_ends_with_the_token_that_made_the_link(
    database_url: str, simulator: Simulator
) -> None:
    async with service_with(database_url, simulator) as res, client_of(res) as api, visitor(res) as client:
        link = (await api.post("/v1/login-links", json={"name": "anna"})).json()["url"].partition("link=")[2]
        await submit(client, "/login", link=link)
        session_id = client.cookies["tallyhook"]

    other = {"TALLYHOOK_ADMIN_TOKEN": "another-" + ADMIN_TOKEN}
    async with service_with(database_url, simulator, **other) as res, visitor(res) as client:
        client.cookies.set("tallyhook", session_id, domain="127.0.0.1")
        assert (await client.get("/runs")).status_code == 303


FOREIGN: list[Mapping[str, str]] = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "https://elsewhere.example"},
    {"Origin": "null"},
    {},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
async def test_a_form_from_elsewhere_does_nothing(res: Resources, headers: Mapping[str, str]) -> None:
    async with visitor(res) as client:
        await log_in(client)

        refused = await client.post("/logout", headers=headers)

        assert refused.status_code == 403
        assert (await client.get("/runs")).status_code == 200


async def test_an_older_browser_is_recognized_by_its_origin(res: Resources) -> None:
    async with visitor(res) as client:
        assert (await client.post("/login", data={"token": ADMIN_TOKEN}, headers={"Origin": HERE})).status_code == 303


async def test_who_may_only_look_gets_no_buttons_and_can_do_nothing(res: Resources) -> None:
    async with visitor(res) as client:
        await log_in(client, READ_TOKEN)

        assert "New rule" not in (await client.get("/rules")).text
        assert (await submit(client, "/rules/x/disable")).status_code == 403


BEHIND_PROXY = {
    "TALLYHOOK_PROXY_USER_HEADER": "X-Forwarded-User",
    "TALLYHOOK_TRUSTED_PROXIES": "10.0.0.0/8",
    "TALLYHOOK_PROXY_ADMINS": "anna, X-Forwarded-Groups=finance",
}


@pytest.mark.parametrize(
    ("headers", "buttons"),
    [
        ({"X-Forwarded-User": "anna"}, True),
        ({"X-Forwarded-User": "bert", "X-Forwarded-Groups": "sales, finance"}, True),
        ({"X-Forwarded-User": "bert", "X-Forwarded-Groups": "sales"}, False),
    ],
    ids=["by name", "by group", "neither"],
)
async def test_a_trusted_proxy_logs_people_in(
    database_url: str, simulator: Simulator, headers: dict[str, str], buttons: bool
) -> None:
    async with (
        service_with(database_url, simulator, **BEHIND_PROXY) as res,
        visitor(res, peer=PROXY) as client,
    ):
        answer = await client.get("/rules", headers=headers)

    assert answer.status_code == 200
    assert headers["X-Forwarded-User"] in answer.text
    assert ("New rule" in answer.text) is buttons


async def test_headers_from_anybody_else_are_ignored(database_url: str, simulator: Simulator) -> None:
    async with service_with(database_url, simulator, **BEHIND_PROXY) as res, visitor(res, peer="192.0.2.9") as client:
        answer = await client.get("/rules", headers={"X-Forwarded-User": "anna", "X-Forwarded-For": PROXY})

    assert answer.status_code == 303


@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://evil.example/",
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "/\t/evil.example",
        "javascript:x",
    ],
)
async def test_a_login_never_leads_to_another_site(res: Resources, elsewhere: str) -> None:
    async with visitor(res) as client:
        entered = await log_in(client, next=elsewhere)
        assert (await client.get(entered.headers["location"])).headers["location"] == "/"


async def test_below_a_prefix_every_link_has_it_whether_the_proxy_takes_it_away_or_not(
    database_url: str, simulator: Simulator
) -> None:
    async with service_with(database_url, simulator, TALLYHOOK_BASE_PATH="/reports/") as res, visitor(res) as client:
        await log_in(client)
        for path in ("/rules", "/reports/rules"):
            page = await client.get(path)
            assert 'href="/reports/runs"' in page.text
            assert 'href="/r' not in page.text.replace('href="/reports', "")
        assert (await client.get("/reports/v1/rules", headers={"Authorization": f"Bearer {ADMIN_TOKEN}"})).json()


async def test_a_program_that_requests_the_root_learns_where_the_api_is(res: Resources) -> None:
    async with httpx.AsyncClient(transport=visitor(res)._transport, base_url=HERE) as curl:
        answer = await curl.get("/")

    assert answer.status_code == 200
    assert answer.text.count("\n") == 1
    assert "/v1" in answer.text
    assert "/docs" in answer.text


async def test_without_pages_the_root_is_the_apis(database_url: str, simulator: Simulator) -> None:
    async with service_with(database_url, simulator, TALLYHOOK_WEB="off") as res, visitor(res) as client:
        assert (await client.get("/")).status_code == 401
        assert (await client.get("/login")).status_code == 401
