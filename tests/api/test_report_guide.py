"""A bookkeeper finds the report for a task without knowing Stripe's names."""

import httpx
import pytest

from app.resources import Resources
from app.simulator import Simulator
from app.tables.catalogue import catalogue
from app.tables.guide import TASKS
from app.upkeep.reconcile import reconcile
from tests.service import execute


def test_every_task_names_a_family_of_the_catalogue() -> None:
    assert set(TASKS.values()) <= set(catalogue().families)
    assert all(any(one.family == family for one in catalogue().report_types.values()) for family in TASKS.values())


async def test_each_task_has_the_newest_version_that_the_account_has(
    res: Resources, simulator: Simulator, api: httpx.AsyncClient
) -> None:
    await reconcile(res)
    await execute(res, "update report_types set missing_since = now() where id = 'payouts.itemized.5'")
    await execute(res, "delete from report_types where id like 'tax.%'")

    entries = {one["family"]: one for one in (await api.get("/v1/report-guide")).json()["data"]}

    assert len(entries) == len(TASKS)
    assert entries["balance_change_from_activity.itemized"]["report_type"] == "balance_change_from_activity.itemized.7"
    assert entries["payouts.itemized"]["report_type"] == "payouts.itemized.4", "the account does not have the fifth"
    assert entries["payouts.itemized"]["newest_known"] == "payouts.itemized.5"
    assert entries["tax.transactions.itemized"]["report_type"] is None


async def test_its_columns_are_described_in_words(api: httpx.AsyncClient) -> None:
    (entry, *_) = (await api.get("/v1/report-guide")).json()["data"]

    columns = {one["name"]: one for one in entry["columns"]}
    assert columns["net"]["kind"] == "decimal"
    assert columns["net"]["meaning"]


@pytest.mark.parametrize(("account", "status"), [("default", 200), ("eu", 422)])
async def test_an_account_that_is_not_configured_is_refused(api: httpx.AsyncClient, account: str, status: int) -> None:
    answer = await api.get("/v1/report-guide", params={"account": account})

    assert answer.status_code == status
    if status == 422:
        assert answer.json()["errors"] == [
            {"pointer": "account", "detail": "eu is not configured; the accounts are: default"}
        ]
