"""Requests that many tests of the simulator make."""

from typing import Any

import httpx

from app.simulator import Simulator

SUMMARY = "balance.summary.1"
ITEMIZED = "balance_change_from_activity.itemized.7"
RUNS = "/v1/reporting/report_runs"
DAY = 86400


def a_day(simulator: Simulator, *, report_type: str = SUMMARY, **parameters: object) -> dict[str, Any]:
    """The form of a create call for the last day that a report type has data for."""
    end = simulator.report_type(report_type).data_available_end
    wanted = {"interval_start": end - DAY, "interval_end": end} | parameters
    form: dict[str, Any] = {"report_type": report_type}
    for name, value in wanted.items():
        if isinstance(value, list):
            form |= {f"parameters[{name}][{place}]": item for place, item in enumerate(value)}
        elif value is not None:
            form[f"parameters[{name}]"] = str(value)
    return form


async def create(client: httpx.AsyncClient, form: dict[str, Any], *, key: str | None = None) -> httpx.Response:
    return await client.post(RUNS, data=form, headers={"Idempotency-Key": key} if key else {})


async def finished(client: httpx.AsyncClient, form: dict[str, Any]) -> dict[str, Any]:
    """The succeeded run of a create call."""
    created = await create(client, form)
    assert created.status_code == 200, created.text
    answer = await client.get(f"{RUNS}/{created.json()['id']}")
    run: dict[str, Any] = answer.json()
    assert run["status"] == "succeeded"
    return run


async def csv_of(client: httpx.AsyncClient, form: dict[str, Any]) -> bytes:
    """The file of a new run, which has the promised size."""
    result = (await finished(client, form))["result"]
    answer = await client.get(result["url"])
    assert answer.status_code == 200
    assert len(answer.content) == result["size"]
    return answer.content


def error_of(answer: httpx.Response) -> dict[str, Any]:
    error: dict[str, Any] = answer.json()["error"]
    return error


def advance(simulator: Simulator, report_type: str = SUMMARY) -> int:
    """Half a day more data; returns the new end."""
    end = simulator.report_type(report_type).data_available_end + 43200
    simulator.advance(report_type, end)
    return end
