"""Reports that are wrong on demand, and the forms of a report that have been seen."""

import csv
import io
import zipfile

import httpx
import pytest

from app.simulator import Simulator
from tests.simulator.asking import DAY, ITEMIZED, RUNS, SUMMARY, a_day, create, csv_of, finished

PAYOUTS = "payouts.itemized.5"
TOTALS = "balance_change_from_activity.summary.2"


def table(text: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text.decode("utf-8-sig"), newline=""), strict=True))


async def test_everything_is_quoted_but_an_absent_value(client: httpx.AsyncClient, simulator: Simulator) -> None:
    text = await csv_of(client, a_day(simulator, report_type=ITEMIZED, columns=["net", "regulatory_tag", "currency"]))

    first = text.splitlines()[1]
    assert first.startswith(b'"')
    assert b",," in first


async def test_quotes_can_be_left_to_where_they_are_needed(client: httpx.AsyncClient, simulator: Simulator) -> None:
    quoted = await csv_of(client, a_day(simulator, report_type=ITEMIZED))
    simulator.configure(quoting="minimal")
    minimal = await csv_of(client, a_day(simulator, report_type=ITEMIZED))
    simulator.configure(quoting="header")
    header = await csv_of(client, a_day(simulator, report_type=ITEMIZED))
    simulator.configure(quoting="all")
    simulator.inject("report_unquoted")
    by_fault = await csv_of(client, a_day(simulator, report_type=ITEMIZED))

    assert minimal.startswith(b"balance_transaction_id,created,")
    assert header.startswith(b'"balance_transaction_id","created",')
    assert by_fault == minimal
    assert table(quoted) == table(minimal) == table(header)


async def test_a_balance_has_the_eight_lines_of_a_real_one(client: httpx.AsyncClient, simulator: Simulator) -> None:
    lines = table(await csv_of(client, a_day(simulator, currency="usd")))
    simulator.configure(payout_parts=False, payout_currency=False)
    older = table(await csv_of(client, a_day(simulator, currency="usd")))

    parts = ["activity_gross", "activity_fee", "activity", "payouts_gross", "payouts_fee", "payouts"]
    assert [line[0] for line in lines[1:]] == ["starting_balance", *parts, "ending_balance"]
    assert {line[3] for line in lines[1:]} == {"usd"}
    assert [line[0] for line in older[1:]] == ["starting_balance", *parts[:3], "payouts", "ending_balance"]
    assert [line[3] for line in older[1:] if line[0] == "payouts"] == [""]


async def test_summaries_end_in_total_lines_where_it_is_wanted(client: httpx.AsyncClient, simulator: Simulator) -> None:
    without = table(await csv_of(client, a_day(simulator, report_type=TOTALS)))
    simulator.configure(total_lines=True)
    lines = table(await csv_of(client, a_day(simulator, report_type=TOTALS)))

    assert lines[: len(without)] == without
    assert {line[0] for line in lines[len(without) :]} == {"total"}
    assert [line[1] for line in lines[len(without) :]] == sorted({line[1] for line in without[1:]})


async def test_a_compressed_file_is_a_zip_of_the_same_csv(client: httpx.AsyncClient, simulator: Simulator) -> None:
    plain = await csv_of(client, a_day(simulator, report_type=ITEMIZED))
    result = (await finished(client, a_day(simulator, report_type=ITEMIZED, compress_file="true")))["result"]
    answer = await client.get(result["url"])

    assert result["type"] == "zip"
    assert result["filename"].endswith(".zip")
    assert answer.headers["content-type"] == "application/zip"
    assert len(answer.content) == result["size"]
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert [archive.read(name) for name in archive.namelist()] == [plain]


async def test_a_restated_window_has_other_figures_from_then_on(
    client: httpx.AsyncClient, simulator: Simulator
) -> None:
    end = simulator.report_type(ITEMIZED).data_available_end
    form = a_day(simulator, report_type=ITEMIZED)
    day_before = form | {"parameters[interval_start]": str(end - 2 * DAY), "parameters[interval_end]": str(end - DAY)}
    told, untouched = await finished(client, form), await csv_of(client, day_before)
    first = (await client.get(told["result"]["url"])).content

    simulator.restate(end - DAY, end, at=simulator.now + 3600)
    assert await csv_of(client, form) == first
    simulator.set_clock(advance=3601)
    again = await csv_of(client, form)

    assert again != first
    assert await csv_of(client, form) == again
    assert await csv_of(client, day_before) == untouched
    assert (await client.get(told["result"]["url"])).content == first
    assert {line[0] for line in table(first)} ^ {line[0] for line in table(again)}


async def test_a_second_restatement_changes_it_once_more(client: httpx.AsyncClient, simulator: Simulator) -> None:
    end = simulator.report_type(ITEMIZED).data_available_end
    told = []
    for _ in range(3):
        told.append(await csv_of(client, a_day(simulator, report_type=ITEMIZED)))
        simulator.restate(end - DAY, end)

    assert len(set(told)) == 3


async def test_an_extra_column_comes_last(client: httpx.AsyncClient, simulator: Simulator) -> None:
    before = table(await csv_of(client, a_day(simulator, report_type=ITEMIZED)))
    simulator.inject("report_extra_column", column="network_cost", value="0.01", match={"report_type": ITEMIZED})
    after = table(await csv_of(client, a_day(simulator, report_type=ITEMIZED)))

    assert after[0] == [*before[0], "network_cost"]
    assert after[1:] == [[*line, "0.01"] for line in before[1:]]


@pytest.mark.parametrize(("rows_per_day", "row"), [(48, 7), (30_000, 1), (30_000, 4_321), (30_000, 29_990)])
async def test_a_bad_value_is_in_the_row_that_was_named(
    client: httpx.AsyncClient, simulator: Simulator, rows_per_day: float, row: int
) -> None:
    simulator.configure(rows_per_day=rows_per_day)
    before = table(await csv_of(client, a_day(simulator, report_type=ITEMIZED)))
    simulator.inject("report_bad_value", row=row, column="net", value="NaN")
    after = table(await csv_of(client, a_day(simulator, report_type=ITEMIZED)))

    different = [number for number, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    assert different == [row]
    assert after[row][before[0].index("net")] == "NaN"


@pytest.mark.parametrize(("rows_per_day", "row"), [(48, 3), (30_000, 12_345)])
async def test_a_row_is_missing_in_one_report(
    client: httpx.AsyncClient, simulator: Simulator, rows_per_day: float, row: int
) -> None:
    simulator.configure(rows_per_day=rows_per_day)
    before = table(await csv_of(client, a_day(simulator, report_type=ITEMIZED)))
    simulator.inject("report_missing_row", row=row)
    after = table(await csv_of(client, a_day(simulator, report_type=ITEMIZED)))

    assert after == before[:row] + before[row + 1 :]


async def test_a_byte_order_mark_and_the_ends_of_lines(client: httpx.AsyncClient, simulator: Simulator) -> None:
    plain = await csv_of(client, a_day(simulator, report_type=PAYOUTS))
    simulator.inject("report_bom", match={"report_type": PAYOUTS})
    marked = await csv_of(client, a_day(simulator, report_type=PAYOUTS))
    simulator.inject("report_crlf", match={"report_type": PAYOUTS})
    windows = await csv_of(client, a_day(simulator, report_type=PAYOUTS))

    assert marked == b"\xef\xbb\xbf" + plain
    assert windows == plain.replace(b"\n", b"\r\n")
    assert await csv_of(client, a_day(simulator, report_type=PAYOUTS)) == plain


async def test_a_fault_of_reports_meets_only_its_type(client: httpx.AsyncClient, simulator: Simulator) -> None:
    simulator.inject("report_missing_row", match={"report_type": PAYOUTS})

    assert len(table(await csv_of(client, a_day(simulator)))) == 33
    assert simulator.faults[0].struck == 0


async def test_the_same_question_can_be_answered_with_the_earlier_file(
    client: httpx.AsyncClient, simulator: Simulator
) -> None:
    simulator.inject("run_earlier_file", times=None)
    first = await finished(client, a_day(simulator))
    again = await finished(client, a_day(simulator))
    other = await finished(client, a_day(simulator, currency="usd"))

    assert again["id"] != first["id"]
    assert again["result"] == first["result"]
    assert other["result"]["id"] != first["result"]["id"]


async def test_words_that_no_fault_has_are_refused(client: httpx.AsyncClient, simulator: Simulator) -> None:
    with pytest.raises(ValueError, match="has no colour"):
        simulator.inject("report_bom", colour="red")
    with pytest.raises(ValueError, match="has no weather"):
        simulator.inject("report_bom", match={"weather": "fine"})
    refused = await create(client, a_day(simulator, report_type=SUMMARY, compress_file="perhaps"))

    assert refused.status_code == 400
    assert (await client.get(RUNS)).json()["data"] == []
