"""Reports as they are requested over HTTP: deterministic, in the wanted columns, of the wanted size."""

import csv
import io
import tracemalloc
from decimal import Decimal

import httpx
import pytest

from app.simulator import Simulator
from tests.simulator.asking import DAY, ITEMIZED, SUMMARY, a_day, csv_of, finished


async def test_a_payout_found_in_one_report_can_be_requested_in_another(
    client: httpx.AsyncClient, simulator: Simulator
) -> None:
    payouts = await csv_of(client, a_day(simulator, report_type="payouts.itemized.5"))
    payout = next(csv.DictReader(io.StringIO(payouts.decode(), newline="")))
    form = {"report_type": "payout_reconciliation.by_id.itemized.4", "parameters[payout]": payout["payout_id"]}

    behind = list(csv.DictReader(io.StringIO((await csv_of(client, form)).decode(), newline="")))

    assert {item["automatic_payout_id"] for item in behind} == {payout["payout_id"]}
    assert sum(Decimal(item["net"]) for item in behind) == -Decimal(payout["net"])


async def test_equal_requests_make_equal_bytes_and_another_seed_does_not(
    client: httpx.AsyncClient, simulator: Simulator
) -> None:
    first = await csv_of(client, a_day(simulator, report_type=ITEMIZED))
    again = await csv_of(client, a_day(simulator, report_type=ITEMIZED))
    simulator.configure(seed=2)
    other = await csv_of(client, a_day(simulator, report_type=ITEMIZED))

    assert first == again
    assert first != other


async def test_columns_are_in_the_requested_order(client: httpx.AsyncClient, simulator: Simulator) -> None:
    text = await csv_of(client, a_day(simulator, report_type=ITEMIZED, columns=["net", "currency"]))

    assert text.startswith(b'"net","currency"\n')


async def test_without_transactions_a_report_is_a_header_alone(client: httpx.AsyncClient, simulator: Simulator) -> None:
    simulator.configure(rows_per_day=0)

    for report_type in (ITEMIZED, SUMMARY, "payouts.itemized.5"):
        text = await csv_of(client, a_day(simulator, report_type=report_type))
        assert text.count(b"\n") == 1


async def test_rows_grow_with_the_interval_and_the_rate(client: httpx.AsyncClient, simulator: Simulator) -> None:
    end = simulator.report_type(ITEMIZED).data_available_end

    async def count(days: int, rate: float) -> int:
        simulator.add_report_type(ITEMIZED, rows_per_day=rate)
        text = await csv_of(client, a_day(simulator, report_type=ITEMIZED, interval_start=end - days * DAY))
        return len(list(csv.reader(io.StringIO(text.decode(), newline="")))) - 1

    assert await count(1, 24) == pytest.approx(24, abs=1)
    assert await count(10, 24) == pytest.approx(240, abs=1)
    assert await count(1, 960) == pytest.approx(960, abs=1)


async def test_a_large_file_is_streamed_without_being_held(client: httpx.AsyncClient, simulator: Simulator) -> None:
    size = 256 << 20
    simulator.add_report_type(ITEMIZED, bytes=size)
    result = (await finished(client, a_day(simulator, report_type=ITEMIZED)))["result"]

    tracemalloc.start()
    received = 0
    async with client.stream("GET", result["url"]) as answer:
        async for piece in answer.aiter_raw():
            received += len(piece)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert received == result["size"] == size
    assert peak < size // 8
