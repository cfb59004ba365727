"""Faults of calls: each strikes as described, the right calls, the right number of times."""

import time

import httpx
import pytest

from app.simulator import Simulator
from app.simulator.faults import When
from tests.simulator.asking import ITEMIZED, RUNS, SUMMARY, a_day, create, error_of, finished
from tests.simulator.conftest import KEY
from tests.until import until

TYPES = "/v1/reporting/report_types"


@pytest.mark.parametrize("status", [401, 403, 409, 429, 500, 502, 503])
async def test_a_status_is_answered_instead(client: httpx.AsyncClient, simulator: Simulator, status: int) -> None:
    simulator.inject("status", status=status)

    answers = [await client.get(TYPES) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [status, 200]
    assert error_of(answers[0])["message"]
    assert simulator.calls[0].status == status


async def test_a_429_says_why_and_may_say_more(client: httpx.AsyncClient, simulator: Simulator) -> None:
    simulator.inject("status", status=429)
    simulator.inject("status", status=429, headers={"Stripe-Should-Retry": "true", "Retry-After": "2"})
    simulator.inject("status", status=429, headers={"Stripe-Rate-Limited-Reason": "global-concurrency"})
    simulator.inject("status", status=429, code="lock_timeout")

    plain, retry, reason, lock = [await client.get(TYPES) for _ in range(4)]

    assert plain.headers["Stripe-Rate-Limited-Reason"] == "endpoint-rate"
    assert (retry.headers["Stripe-Should-Retry"], retry.headers["Retry-After"]) == ("true", "2")
    assert reason.headers["Stripe-Rate-Limited-Reason"] == "global-concurrency"
    assert "Stripe-Rate-Limited-Reason" not in lock.headers
    assert error_of(lock)["code"] == "lock_timeout"


@pytest.mark.parametrize(("when", "runs"), [("before", 0), ("during", 0), ("after", 1)])
async def test_a_server_error_comes_before_or_after_the_effect(
    client: httpx.AsyncClient, simulator: Simulator, when: When, runs: int
) -> None:
    simulator.inject("status", status=503, when=when)

    answer = await create(client, a_day(simulator))
    await simulator.settle()

    assert answer.status_code == 503
    assert [run.status for run in simulator.runs] == ["succeeded"] * runs


@pytest.mark.parametrize(("when", "runs"), [("before", 0), ("after", 1)])
async def test_a_cut_connection_gives_no_answer(
    client: httpx.AsyncClient, simulator: Simulator, when: When, runs: int
) -> None:
    simulator.inject("cut", when=when)

    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        await create(client, a_day(simulator))
    await simulator.settle()

    assert [run.status for run in simulator.runs] == ["succeeded"] * runs
    assert simulator.calls[-1].status == 0
    assert (await client.get(TYPES)).status_code == 200


async def test_the_answer_to_a_refused_call_may_be_lost_as_well(
    client: httpx.AsyncClient, simulator: Simulator
) -> None:
    simulator.inject("cut", when="after")

    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        await create(client, {"report_type": SUMMARY}, key="one")

    assert (await create(client, a_day(simulator), key="one")).status_code == 200


@pytest.mark.parametrize("when", ["before", "during", "after"])
async def test_a_slow_answer_takes_its_time(client: httpx.AsyncClient, simulator: Simulator, when: When) -> None:
    simulator.inject("slow", seconds=0.3, when=when)

    started = time.monotonic()
    answer = await client.get(TYPES)

    assert answer.status_code == 200
    assert time.monotonic() - started >= 0.3


async def test_a_client_that_gives_up_early_may_have_made_a_run(
    client: httpx.AsyncClient, simulator: Simulator
) -> None:
    simulator.inject("slow", seconds=60, when="after")

    with pytest.raises(httpx.ReadTimeout):
        await client.post(RUNS, data=a_day(simulator), timeout=httpx.Timeout(None, read=0.2))

    await until(lambda: len(simulator.runs) == 1)


async def test_faults_strike_only_what_they_match(client: httpx.AsyncClient, simulator: Simulator) -> None:
    simulator.inject("status", match={"method": "POST", "path": "report_runs$", "report_type": ITEMIZED}, times=None)

    other_method = await client.get(RUNS)
    other_type = await create(client, a_day(simulator))
    struck = [await create(client, a_day(simulator, report_type=ITEMIZED)) for _ in range(3)]

    assert (other_method.status_code, other_type.status_code) == (200, 200)
    assert [answer.status_code for answer in struck] == [500] * 3


async def test_a_fault_matches_the_report_type_behind_a_run_and_a_file(
    client: httpx.AsyncClient, simulator: Simulator
) -> None:
    run = await finished(client, a_day(simulator))
    paths = [f"{RUNS}/{run['id']}", f"/v1/files/{run['result']['id']}", f"{TYPES}/{SUMMARY}", f"{TYPES}/{ITEMIZED}"]
    simulator.inject("status", match={"report_type": SUMMARY}, times=None)

    assert [(await client.get(path)).status_code for path in paths] == [500, 500, 500, 200]


async def test_a_fault_skips_matches_and_ends(client: httpx.AsyncClient, simulator: Simulator) -> None:
    simulator.inject("status", after=1, times=2)

    assert [(await client.get(TYPES)).status_code for _ in range(5)] == [200, 500, 500, 200, 200]


async def test_faults_of_one_kind_follow_each_other(client: httpx.AsyncClient, simulator: Simulator) -> None:
    simulator.inject("status", status=429)
    simulator.inject("status", status=503, times=2)

    assert [(await client.get(TYPES)).status_code for _ in range(4)] == [429, 503, 503, 200]


async def test_a_fault_matches_a_key_or_an_account(client: httpx.AsyncClient, simulator: Simulator) -> None:
    simulator.add_account("other")
    simulator.inject("status", match={"key": KEY})
    simulator.inject("cut", match={"account": "other"})

    assert (await client.get(TYPES)).status_code == 500
    with pytest.raises(httpx.TransportError):
        await client.get(TYPES, headers={"Authorization": "Bearer sk_test_simulator_other"})
    assert (await client.get(TYPES)).status_code == 200


async def test_cleared_faults_strike_no_more(client: httpx.AsyncClient, simulator: Simulator) -> None:
    simulator.inject("status", times=None)

    simulator.clear_faults()

    assert (await client.get(TYPES)).status_code == 200


def test_a_misspelt_match_is_refused() -> None:
    with pytest.raises(ValueError, match="reporttype"):
        Simulator().inject("status", match={"reporttype": SUMMARY})


@pytest.mark.parametrize(("fault", "status"), [("run_fails", "failed"), ("run_hangs", "pending")])
async def test_a_single_run_fails_or_hangs(
    client: httpx.AsyncClient, simulator: Simulator, fault: str, status: str
) -> None:
    simulator.inject("run_fails" if fault == "run_fails" else "run_hangs", message="The query ran out of memory.")

    for _ in range(2):
        await create(client, a_day(simulator))
    await simulator.settle()

    assert [run.status for run in simulator.runs] == [status, "succeeded"]
    if status == "failed":
        assert simulator.runs[0].error == "The query ran out of memory."


async def test_a_single_run_succeeds_at_once(client: httpx.AsyncClient, simulator: Simulator) -> None:
    simulator.inject("run_instant", match={"report_type": ITEMIZED})

    other = (await create(client, a_day(simulator))).json()
    instant = (await create(client, a_day(simulator, report_type=ITEMIZED))).json()

    assert (other["status"], instant["status"]) == ("pending", "succeeded")
    assert instant["result"]["size"] > 0


async def test_the_url_of_a_result_may_be_missing_or_lead_elsewhere(
    client: httpx.AsyncClient, simulator: Simulator
) -> None:
    simulator.inject("url_null")
    simulator.inject("url_elsewhere", after=1, url="http://127.0.0.1:9/stolen")

    urls = [(await finished(client, a_day(simulator)))["result"]["url"] for _ in range(3)]

    assert urls[:2] == [None, "http://127.0.0.1:9/stolen"]
    assert urls[2].startswith(simulator.base_url)
