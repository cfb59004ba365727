"""The life of a run over real HTTP, from the create call to the file."""

import httpx

from app.simulator import Simulator
from tests.simulator.asking import DAY, ITEMIZED, RUNS, SUMMARY, a_day, create, finished
from tests.simulator.receiver import Receiver


async def test_a_run_is_pending_in_the_answer_and_succeeds_after_it(
    client: httpx.AsyncClient, simulator: Simulator, receiver: Receiver
) -> None:
    created = (await create(client, a_day(simulator))).json()
    await simulator.settle()
    run = (await client.get(f"{RUNS}/{created['id']}")).json()

    assert (created["status"], created["result"], created["succeeded_at"]) == ("pending", None, None)
    assert created["object"] == "reporting.report_run"
    assert created["livemode"] is False
    assert run["status"] == "succeeded"
    assert run["result"]["purpose"] == "finance_report_run"
    assert run["result"]["expires_at"] - run["result"]["created"] == 365 * DAY
    assert receiver.types == ["reporting.report_run.succeeded"]
    assert receiver.events[0]["data"]["object"] == run


async def test_a_run_shows_exactly_the_parameters_that_were_sent(
    client: httpx.AsyncClient, simulator: Simulator
) -> None:
    form = a_day(simulator, columns=["net_amount", "category"], timezone="Asia/Tokyo")

    created = (await create(client, form)).json()

    end = simulator.report_type(SUMMARY).data_available_end
    assert created["parameters"] == {
        "columns": ["net_amount", "category"],
        "interval_end": end,
        "interval_start": end - DAY,
        "timezone": "Asia/Tokyo",
    }


async def test_a_delayed_run_ends_when_the_clock_says_so(client: httpx.AsyncClient, simulator: Simulator) -> None:
    simulator.configure(delay=600)
    simulator.set_clock(stopped=True)
    created = (await create(client, a_day(simulator))).json()

    simulator.set_clock(advance=599)
    before = simulator.run(created["id"]).status
    simulator.set_clock(advance=1)

    run = simulator.run(created["id"])
    assert (before, run.status) == ("pending", "succeeded")
    assert run.succeeded_at == created["created"] + 600


async def test_a_delay_passes_by_itself_while_the_clock_runs(
    client: httpx.AsyncClient, simulator: Simulator, receiver: Receiver
) -> None:
    simulator.configure(delay=0.01)
    created = (await create(client, a_day(simulator))).json()

    while simulator.run(created["id"]).status == "pending":
        await client.get(f"{RUNS}/{created['id']}")
    await simulator.settle()

    assert receiver.types == ["reporting.report_run.succeeded"]


async def test_a_failing_run_tells_why(client: httpx.AsyncClient, simulator: Simulator, receiver: Receiver) -> None:
    simulator.add_report_type(SUMMARY, outcome="fail")

    created = (await create(client, a_day(simulator))).json()
    await simulator.settle()
    run = (await client.get(f"{RUNS}/{created['id']}")).json()

    assert (run["status"], run["result"]) == ("failed", None)
    assert run["error"]
    assert receiver.types == ["reporting.report_run.failed"]


async def test_a_hanging_run_stays_pending_until_it_is_finished_by_hand(
    client: httpx.AsyncClient, simulator: Simulator
) -> None:
    simulator.configure(outcome="hang")
    created = (await create(client, a_day(simulator))).json()
    await simulator.settle()
    before = simulator.run(created["id"]).status

    simulator.finish_run(created["id"], bytes=12_345)

    run = (await client.get(f"{RUNS}/{created['id']}")).json()
    assert before == "pending"
    assert (run["status"], run["result"]["size"]) == ("succeeded", 12_345)


async def test_the_create_answer_may_already_have_succeeded(client: httpx.AsyncClient, simulator: Simulator) -> None:
    simulator.configure(instant=True)

    created = (await create(client, a_day(simulator))).json()

    assert created["status"] == "succeeded"
    assert (await client.get(created["result"]["url"])).status_code == 200


async def test_a_file_object_can_be_read_on_its_own(client: httpx.AsyncClient, simulator: Simulator) -> None:
    result = (await finished(client, a_day(simulator)))["result"]

    assert (await client.get(f"/v1/files/{result['id']}")).json() == result


async def test_an_expired_file_is_gone(client: httpx.AsyncClient, simulator: Simulator) -> None:
    result = (await finished(client, a_day(simulator)))["result"]

    simulator.set_clock(advance=365 * DAY)

    assert (await client.get(result["url"])).status_code == 404


async def test_runs_that_others_made_are_listed_and_announced(
    client: httpx.AsyncClient, simulator: Simulator, receiver: Receiver
) -> None:
    end = simulator.report_type(SUMMARY).data_available_end
    run = simulator.create_run(SUMMARY, {"interval_start": end - DAY, "interval_end": end})
    await simulator.settle()

    listed = (await client.get(RUNS)).json()["data"]

    assert [item["id"] for item in listed] == [run.id]
    assert receiver.events[0]["data"]["object"]["id"] == run.id


async def test_both_spellings_of_a_list_are_read(client: httpx.AsyncClient, simulator: Simulator) -> None:
    end = simulator.report_type(SUMMARY).data_available_end
    interval = f"report_type={SUMMARY}&parameters[interval_start]={end - DAY}&parameters[interval_end]={end}"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    numbered = "&parameters[columns][0]=currency&parameters[columns][1]=category"
    unnumbered = "&parameters[columns][]=currency&parameters[columns][]=category"

    runs = [
        (await client.post(RUNS, content=interval + spelling, headers=form)).json()
        for spelling in (numbered, unnumbered)
    ]

    assert [run["parameters"]["columns"] for run in runs] == [["currency", "category"]] * 2


async def test_an_end_only_report_takes_the_end(client: httpx.AsyncClient, simulator: Simulator) -> None:
    form = a_day(simulator, report_type="ending_balance_reconciliation.itemized.4", interval_start=None)

    assert (await finished(client, form))["result"]["size"] > 0


async def test_report_types_are_one_list_without_the_live_only_ones(
    client: httpx.AsyncClient, simulator: Simulator
) -> None:
    listed = (await client.get("/v1/reporting/report_types")).json()

    names = [kind["id"] for kind in listed["data"]]
    assert listed["has_more"] is False
    assert ITEMIZED in names
    assert not any(name.startswith("all_fees") for name in names)
    assert (await client.get(f"/v1/reporting/report_types/{ITEMIZED}")).json() in listed["data"]
    assert (await client.get("/v1/reporting/report_types/none.1")).status_code == 404


async def test_a_type_that_the_account_loses_is_404(client: httpx.AsyncClient, simulator: Simulator) -> None:
    form = a_day(simulator)

    simulator.remove_report_type(SUMMARY)

    assert (await create(client, form)).status_code == 404
