"""The refusals that Stripe documents: status, type, `param`, and words that help."""

from typing import Any

import httpx
import pytest

from app.simulator import Simulator
from tests.simulator.asking import DAY, RUNS, SUMMARY, a_day, create, error_of

REFUSALS: list[tuple[str, dict[str, Any], int, str | None, str]] = [
    ("no report type", {"report_type": None}, 400, "report_type", "Missing required param"),
    ("unknown top-level name", {"metadata": "x"}, 400, "metadata", "unknown parameter"),
    ("unknown parameter", {"parameters[colour]": "x"}, 400, "parameters[colour]", "unknown parameter"),
    ("no start", {"parameters[interval_start]": None}, 400, "parameters[interval_start]", "Missing required param"),
    ("no end", {"parameters[interval_end]": None}, 400, "parameters[interval_end]", "Missing required param"),
    (
        "start is not a number",
        {"parameters[interval_start]": "now"},
        400,
        "parameters[interval_start]",
        "Invalid integer",
    ),
    ("unknown zone", {"parameters[timezone]": "Mars/Olympus"}, 400, "parameters[timezone]", "Mars/Olympus"),
    ("unknown column", {"parameters[columns][0]": "colour"}, 400, "parameters[columns]", "colour"),
    ("columns are not a list", {"parameters[columns]": "currency"}, 400, "parameters[columns]", "Invalid array"),
    ("currency in capitals", {"parameters[currency]": "USD"}, 400, "parameters[currency]", "USD"),
    ("unknown report type", {"report_type": "balance.summary.99"}, 404, "report_type", "No such report type"),
    (
        "live only",
        {"report_type": "all_fees.balance_transaction_created.itemized.2"},
        404,
        "report_type",
        "requires a live mode key",
    ),
    ("start before the data", {"parameters[interval_start]": "1"}, 400, "parameters.interval_start", "starting at"),
    ("end after the data", {"parameters[interval_end]": "4102444800"}, 400, "parameters.interval_end", "through"),
    (
        "end without start",
        {"report_type": "ending_balance_reconciliation.itemized.4"},
        400,
        "parameters[interval_start]",
        "unknown parameter",
    ),
    (
        "payout without id",
        {"report_type": "payout_reconciliation.by_id.itemized.4", "parameters[interval_start]": None},
        400,
        "parameters[interval_end]",
        "unknown parameter",
    ),
    (
        "a zone where there is none",
        {"report_type": "balance_change_from_activity.itemized.2", "parameters[timezone]": "Etc/UTC"},
        400,
        "parameters[timezone]",
        "unknown parameter",
    ),
]


@pytest.mark.parametrize(
    ("changes", "status", "param", "words"), [case[1:] for case in REFUSALS], ids=[case[0] for case in REFUSALS]
)
async def test_a_wrong_request_is_refused_in_stripes_form(
    client: httpx.AsyncClient,
    simulator: Simulator,
    changes: dict[str, Any],
    status: int,
    param: str,
    words: str,
) -> None:
    form = {name: value for name, value in (a_day(simulator) | changes).items() if value is not None}

    answer = await create(client, form)

    error = error_of(answer)
    assert (answer.status_code, error["type"], error["param"]) == (status, "invalid_request_error", param)
    assert words in error["message"]
    assert answer.headers["Request-Id"].startswith("req_")
    assert simulator.runs == []


async def test_a_payout_has_to_be_named_for_its_report(client: httpx.AsyncClient) -> None:
    answer = await create(client, {"report_type": "payout_reconciliation.by_id.itemized.4"})

    assert error_of(answer)["param"] == "parameters[payout]"


async def test_the_message_about_bounds_names_both_instants(client: httpx.AsyncClient, simulator: Simulator) -> None:
    simulator.add_report_type(SUMMARY, start=1651190400, end=1661190400)

    answer = await create(client, a_day(simulator, interval_start=1641045832))

    assert error_of(answer)["message"] == (
        "Data for the report type balance.summary.1 is only available starting at 2022-04-29 00:00:00 UTC; "
        "you requested `interval_start` = 2022-01-01 14:03:52 UTC."
    )


@pytest.mark.parametrize(("strict", "status"), [(False, 200), (True, 400)], ids=["inclusive", "strict"])
async def test_the_bounds_are_inclusive_unless_told_otherwise(
    client: httpx.AsyncClient, simulator: Simulator, strict: bool, status: int
) -> None:
    kind = simulator.add_report_type(SUMMARY, strict_bounds=strict)
    bounds: dict[str, Any] = {
        "interval_start": kind.data_available_start,
        "interval_end": kind.data_available_start + DAY,
    }

    assert (await create(client, a_day(simulator, **bounds))).status_code == status


async def test_an_interval_has_to_have_a_length(client: httpx.AsyncClient, simulator: Simulator) -> None:
    end = simulator.report_type(SUMMARY).data_available_end

    answer = await create(client, a_day(simulator, interval_start=end))

    assert answer.status_code == 400


async def test_a_body_that_is_not_a_form_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post(RUNS, json={"report_type": SUMMARY})

    assert answer.status_code == 400
    assert "x-www-form-urlencoded" in error_of(answer)["message"]


async def test_what_does_not_exist_is_404(client: httpx.AsyncClient) -> None:
    answers = [
        await client.get(path)
        for path in (f"{RUNS}/frr_1", "/v1/files/file_1", "/v1/files/file_1/contents", "/v1/events/evt_1")
    ]

    assert [(answer.status_code, error_of(answer)["code"]) for answer in answers] == [(404, "resource_missing")] * 4
    assert "Unrecognized request URL (GET: /v1/charges)" in error_of(await client.get("/v1/charges"))["message"]
