"""Lists: newest first, cursors from both sides, filters."""

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.simulator import Simulator
from app.simulator.http.forms import Form
from app.simulator.http.lists import page
from app.simulator.state.collection import Collection
from app.simulator.state.model import Endpoint
from tests.simulator.asking import RUNS, SUMMARY, a_day, create, error_of


async def test_runs_are_listed_newest_first_in_pages_of_ten(client: httpx.AsyncClient, simulator: Simulator) -> None:
    made = [(await create(client, a_day(simulator))).json()["id"] for _ in range(12)]

    first = (await client.get(RUNS)).json()
    rest = (await client.get(RUNS, params={"starting_after": first["data"][-1]["id"]})).json()

    assert [run["id"] for run in first["data"] + rest["data"]] == made[::-1]
    assert (first["has_more"], rest["has_more"]) == (True, False)
    assert first["url"] == RUNS


async def test_runs_can_be_filtered_by_creation(client: httpx.AsyncClient, simulator: Simulator) -> None:
    simulator.set_clock(stopped=True)
    made = []
    for _ in range(3):
        made.append((await create(client, a_day(simulator))).json())
        simulator.set_clock(advance=10)

    async def found(**filters: int) -> list[int]:
        params = {name.replace("__", "[") + ("]" if "__" in name else ""): value for name, value in filters.items()}
        answer = await client.get(RUNS, params=params)
        return [made.index(next(run for run in made if run["id"] == item["id"])) for item in answer.json()["data"]]

    middle = made[1]["created"]
    assert await found(created=middle) == [1]
    assert await found(created__gte=middle) == [2, 1]
    assert await found(created__gt=middle) == [2]
    assert await found(created__gte=middle, created__lt=middle + 10) == [1]
    assert await found(created__lte=middle) == [1, 0]


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "101"}, "limit"),
        ({"limit": "ten"}, "limit"),
        ({"starting_after": "frr_unknown"}, "starting_after"),
        ({"created[near]": "1"}, "created[near]"),
        ({"status": "pending"}, "status"),
    ],
)
async def test_a_list_that_cannot_be_made_is_refused(
    client: httpx.AsyncClient, params: dict[str, str], param: str
) -> None:
    answer = await client.get(RUNS, params=params)

    assert (answer.status_code, error_of(answer)["param"]) == (400, param)


async def test_events_are_found_by_type_and_by_whether_they_arrived(
    client: httpx.AsyncClient, simulator: Simulator
) -> None:
    simulator.inject("event_lost", match={"event": "report_type"})
    simulator.advance(SUMMARY, simulator.report_type(SUMMARY).data_available_end + 1)
    await create(client, a_day(simulator))
    await simulator.settle()

    async def types(params: dict[str, str | list[str]]) -> list[str]:
        return [event["type"] for event in (await client.get("/v1/events", params=params)).json()["data"]]

    updated, succeeded = "reporting.report_type.updated", "reporting.report_run.succeeded"
    assert await types({}) == [succeeded, updated]
    assert await types({"type": updated}) == [updated]
    assert await types({"types[]": [updated, succeeded]}) == [succeeded, updated]
    assert await types({"types[0]": succeeded}) == [succeeded]
    assert await types({"delivery_success": "false"}) == [updated]
    assert await types({"delivery_success": "true"}) == [succeeded]


async def test_an_event_can_be_read_on_its_own_for_thirty_days(client: httpx.AsyncClient, simulator: Simulator) -> None:
    simulator.advance(SUMMARY, simulator.report_type(SUMMARY).data_available_end + 1)
    url = f"/v1/events/{simulator.events[0].id}"
    now = await client.get(url)

    simulator.set_clock(advance=30 * 86400 + 2)

    assert now.json()["data"]["previous_attributes"].keys() == {"data_available_end", "updated"}
    assert (await client.get(url)).status_code == 404
    assert (await client.get("/v1/events")).json()["data"] == []


@given(count=st.integers(0, 30), limit=st.integers(1, 12), backwards=st.booleans())
def test_pages_put_together_are_the_whole_list(count: int, limit: int, backwards: bool) -> None:
    collection: Collection[Endpoint] = Collection()
    for number in range(count):
        collection.add(Endpoint(f"we_{number}", "http://x", [], [], created=number, livemode=False))
    newest_first = [f"we_{number}" for number in range(count)][::-1]

    found: list[str] = [newest_first.pop()] if backwards and newest_first else []
    cursor = "ending_before" if backwards else "starting_after"
    form: Form = {"limit": str(limit)}
    if found:
        form[cursor] = found[0]
    more = bool(found) or not backwards
    while more:
        got = page(
            collection, form, kind="endpoint", url="/", render=lambda item: {"id": item.id}, fits=lambda item: True
        )
        names = [item["id"] for item in got["data"]]
        found = names + found if backwards else found + names
        more = got["has_more"]
        form[cursor] = found[0] if backwards else found[-1] if found else ""

    assert found == [f"we_{number}" for number in range(count)][::-1]
