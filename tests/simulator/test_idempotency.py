"""Idempotency keys: what is answered again, what is refused, and what is not kept."""

import asyncio

import httpx
import pytest

from app.simulator import Simulator
from app.simulator.faults import When
from tests.simulator.asking import DAY, a_day, create, error_of
from tests.simulator.conftest import KEY
from tests.until import until


async def test_a_repeated_create_gets_the_first_answer_and_makes_nothing(
    client: httpx.AsyncClient, simulator: Simulator
) -> None:
    first = await create(client, a_day(simulator), key="one")
    await simulator.settle()
    again = await create(client, a_day(simulator), key="one")

    assert again.json() == first.json()
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Idempotency-Key"] == "one"
    assert len(simulator.runs) == 1
    assert [record.replayed for record in simulator.creates] == [False, True]


async def test_the_same_key_with_other_parameters_is_an_idempotency_error(
    client: httpx.AsyncClient, simulator: Simulator
) -> None:
    await create(client, a_day(simulator), key="one")

    answer = await create(client, a_day(simulator, timezone="Asia/Tokyo"), key="one")

    assert (answer.status_code, error_of(answer)["type"]) == (400, "idempotency_error")


async def test_a_key_that_is_in_use_is_409(client: httpx.AsyncClient, simulator: Simulator) -> None:
    simulator.inject("slow", seconds=600, when="during")

    first = asyncio.create_task(create(client, a_day(simulator), key="one"))
    await until(lambda: simulator.faults[0].struck)
    second = await create(client, a_day(simulator), key="one")

    assert (second.status_code, error_of(second)["code"]) == (409, "idempotency_key_in_use")
    assert not first.done()
    first.cancel()


async def test_a_refused_request_may_be_corrected_under_the_same_key(
    client: httpx.AsyncClient, simulator: Simulator
) -> None:
    wrong = await create(client, a_day(simulator, timezone="Mars/Olympus"), key="one")
    right = await create(client, a_day(simulator), key="one")

    assert (wrong.status_code, right.status_code) == (400, 200)


@pytest.mark.parametrize("status", [401, 429])
async def test_an_answer_before_execution_is_not_kept(
    client: httpx.AsyncClient, simulator: Simulator, status: int
) -> None:
    simulator.inject("status", status=status)

    answers = [await create(client, a_day(simulator), key="one") for _ in range(2)]

    assert [answer.status_code for answer in answers] == [status, 200]
    assert "Idempotent-Replayed" not in answers[1].headers


@pytest.mark.parametrize(
    ("when", "statuses", "runs"),
    [("before", [500, 200], 1), ("during", [500, 500], 0), ("after", [500, 500], 1)],
)
async def test_a_500_is_repeated_if_execution_had_begun(
    client: httpx.AsyncClient, simulator: Simulator, when: When, statuses: list[int], runs: int
) -> None:
    simulator.inject("status", status=500, when=when)

    answers = [await create(client, a_day(simulator), key="one") for _ in range(2)]

    assert [answer.status_code for answer in answers] == statuses
    assert len(simulator.runs) == runs


async def test_the_answer_that_a_cut_connection_lost_is_found_again(
    client: httpx.AsyncClient, simulator: Simulator
) -> None:
    simulator.inject("cut", when="after")

    with pytest.raises(httpx.TransportError):
        await create(client, a_day(simulator), key="one")
    again = await create(client, a_day(simulator), key="one")

    assert again.headers["Idempotent-Replayed"] == "true"
    assert [run.id for run in simulator.runs] == [again.json()["id"]]


async def test_keys_are_forgotten_after_a_day(client: httpx.AsyncClient, simulator: Simulator) -> None:
    first = await create(client, a_day(simulator), key="one")

    simulator.set_clock(advance=DAY)
    second = await create(client, a_day(simulator), key="one")

    assert first.json()["id"] != second.json()["id"]


async def test_accounts_have_their_own_keys(client: httpx.AsyncClient, simulator: Simulator) -> None:
    simulator.add_account("other")
    await create(client, a_day(simulator), key="one")

    client.headers["Authorization"] = "Bearer sk_test_simulator_other"
    other = await create(client, a_day(simulator), key="one")

    assert "Idempotent-Replayed" not in other.headers
    assert KEY not in other.text


async def test_an_overlong_key_is_refused(client: httpx.AsyncClient, simulator: Simulator) -> None:
    assert (await create(client, a_day(simulator), key="k" * 256)).status_code == 400
