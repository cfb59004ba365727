"""`together`: one run for all connected accounts, and its file for one of them."""

import csv
import io
from datetime import date

import httpx
import pytest

from app.resources import Resources
from app.simulator import Simulator
from tests.files import stored
from tests.files.stored import one_run
from tests.service import add_rule, at, execute, only_run, unpublished, work_off

ALL = "connected_account_balance_change_from_activity.itemized.3"
SHOPS = ["acct_1ShopA", "acct_1ShopB"]


@pytest.fixture
async def run_id(res: Resources, simulator: Simulator) -> str:
    """The stored run of a rule for all of them."""
    unpublished(simulator, ALL, until="2026-03-02")
    for shop in SHOPS:
        simulator.connect_account(shop, created=at("2026-01-01"))
    columns = {"columns": ["balance_transaction_id", "connected_account", "net"]}
    await add_rule(res, name="all", report_type=ALL, starts_on=date(2026, 3, 1), parameters=columns)
    await work_off(res)
    run = await only_run(res)
    assert (run["state"], run["connected_account"]) == ("stored", None)
    return str(run["id"])


def rows(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


async def test_each_account_has_its_lines_of_the_one_file_and_together_they_are_all(
    api: httpx.AsyncClient, run_id: str, simulator: Simulator
) -> None:
    whole = (await api.get(f"/v1/runs/{run_id}/file")).content
    parts = [await api.get(f"/v1/runs/{run_id}/file", params={"connected_account": shop}) for shop in SHOPS]

    assert len(simulator.creates) == 1
    assert [{row["connected_account"] for row in rows(part.content)} for part in parts] == [{shop} for shop in SHOPS]
    assert [row for part in parts for row in rows(part.content)] == rows(whole)
    assert all(part.headers["content-type"].startswith("text/csv") for part in parts)
    assert SHOPS[0] in parts[0].headers["content-disposition"]
    assert len({part.headers["etag"] for part in parts}) == 2


async def test_an_account_without_lines_gets_the_header(api: httpx.AsyncClient, run_id: str) -> None:
    whole = (await api.get(f"/v1/runs/{run_id}/file")).content
    answer = await api.get(f"/v1/runs/{run_id}/file", params={"connected_account": "acct_1Nobody"})

    assert (answer.status_code, answer.content) == (200, whole.split(b"\n")[0] + b"\n")


async def test_lines_are_found_by_date_and_by_rule_too(api: httpx.AsyncClient, run_id: str) -> None:
    wanted = (await api.get(f"/v1/runs/{run_id}/file", params={"connected_account": SHOPS[1]})).content

    for when in ("2026-03-01", "latest"):
        answer = await api.get(f"/v1/rules/all/files/{when}", params={"connected_account": SHOPS[1]})
        assert (answer.status_code, answer.content) == (200, wanted)


async def test_an_account_that_the_rule_leaves_out_is_not_served(api: httpx.AsyncClient, run_id: str) -> None:
    await api.patch("/v1/rules/all", json={"except": [SHOPS[0]]})

    for url in (f"/v1/runs/{run_id}/file", "/v1/rules/all/files/2026-03-01"):
        left_out, other = [await api.get(url, params={"connected_account": shop}) for shop in SHOPS]
        assert (left_out.status_code, "`except`" in left_out.json()["detail"]) == (404, True)
        assert {row["connected_account"] for row in rows(other.content)} == {SHOPS[1]}
    assert {row["connected_account"] for row in rows((await api.get(f"/v1/runs/{run_id}/file")).content)} == {*SHOPS}


async def test_what_was_not_changed_is_not_sent_again(api: httpx.AsyncClient, run_id: str) -> None:
    url, asked = f"/v1/runs/{run_id}/file", {"connected_account": SHOPS[0]}
    tag = (await api.head(url, params=asked)).headers["etag"]

    assert (await api.get(url, params=asked, headers={"If-None-Match": tag})).status_code == 304
    assert (await api.get(url, headers={"If-None-Match": tag})).status_code == 200


async def test_lines_that_cannot_be_picked_say_why(res: Resources, api: httpx.AsyncClient, run_id: str) -> None:
    nameless = await one_run(res)
    await stored.store(res, nameless, b"net,currency\n5,eur\n")
    alone = await one_run(res)
    await stored.store(res, alone, b"net\n5\n")
    await execute(res, "update runs set connected_account = :shop where id = :id", shop=SHOPS[0], id=alone)

    async def asked(run: object, **more: str) -> httpx.Response:
        return await api.get(f"/v1/runs/{run}/file", params={"connected_account": SHOPS[0], **more})

    refused = await asked(nameless)
    assert refused.status_code == 406
    assert "no column connected_account; add it to the rule's parameter `columns`" in refused.json()["detail"]
    assert (await asked(run_id, format="xlsx")).status_code == 406
    assert (await asked(alone)).content == b"net\n5\n"
    assert (await asked(alone, connected_account=SHOPS[1])).status_code == 404
    assert (await asked(run_id, connected_account="shop")).status_code == 422


@pytest.mark.parametrize(
    ("report_type", "columns", "warned"),
    [
        (ALL, None, True),
        (ALL, ["net"], True),
        (ALL, ["net", "connected_account"], False),
        ("connected_account_balance.summary.1", None, False),
    ],
)
async def test_a_rule_whose_file_will_not_say_whose_its_lines_are_is_warned_about(
    api: httpx.AsyncClient, report_type: str, columns: list[str] | None, *, warned: bool
) -> None:
    rule = {"report_type": report_type, "cadence": "daily", "timezone": "UTC", "starts_on": "2026-03-01"}
    parameters = {} if columns is None else {"columns": columns}

    answer = await api.post("/v1/rules/preview", json={**rule, "parameters": parameters})

    pointers = [warning["pointer"] for warning in answer.json()["warnings"]]
    assert ("/parameters/columns" in pointers) is warned
