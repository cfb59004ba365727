"""Every report type of the catalogue: its parameters and columns can be requested, as programs in the wild do."""

import csv
import io

import httpx
import pytest

from app.simulator import Simulator
from app.simulator.reports.catalogue import METADATA, catalogue, facts, template_for
from app.simulator.reports.families import family_of
from tests.simulator.asking import DAY, a_day, create, csv_of, error_of

ACCOUNT = "acct_1Connected"
COMPLETE = [name for name in catalogue() if facts()["report_types"][name]["columns_complete"]]
# Column lists of public programs (a singer tap, a donation processor, accounting notes, an importer), in their order.
ASKED_FOR = {
    "payout_reconciliation.by_id.itemized.4": [
        "automatic_payout_effective_at_utc",
        "automatic_payout_id",
        "balance_transaction_id",
        "card_brand",
        "charge_id",
        "created_utc",
        "currency",
        "customer_facing_amount",
        "customer_facing_currency",
        "description",
        "fee",
        "gross",
        "net",
        "payment_intent_id",
        "payment_metadata[external_identifier]",
        "reporting_category",
        "statement_descriptor",
    ],
    "balance_change_from_activity.itemized.6": ["created_utc", "regulatory_tag", "trace_id", "trace_id_status", "net"],
    "balance_change_from_activity.itemized.7": ["balance_transaction_id", "withheld_tax", "fee_net_of_withheld_tax"],
    "payout_reconciliation.itemized.6": ["automatic_payout_id", "automatic_payout_effective_at", "order_id", "net"],
    "payout_reconciliation.itemized.7": ["payout_reference_token", "payout_statement_descriptor", "gross"],
    "payouts.itemized.5": ["payout_id", "effective_at_utc", "payout_destination_id", "payout_reversed_at", "net"],
    "activity.itemized.3": ["balance_transaction_id", "balance_transaction_component", "fee_id", "activity_at"],
    "tax.transactions.itemized.2": ["id", "line_item_id", "tax_code", "invoice_metadata[order]", "filing_total"],
    "all_fees.incurred_at.itemized.2": ["incurred_at", "fee_category", "amount", "tax", "suite"],
    "connected_account_payouts.itemized.3": ["connected_account", "payout_id", "net"],
}


@pytest.mark.parametrize("report_type", catalogue())
def test_every_listed_column_can_be_written(report_type: str) -> None:
    cells = family_of(report_type).cells
    template = template_for(report_type)

    assert [name for name in template.columns if name not in cells and not METADATA.fullmatch(name)] == []
    assert all(template.knows(name) for name in template.columns)
    assert set(template.file_columns) == set(template.default_columns)


@pytest.mark.parametrize("report_type", ASKED_FOR)
async def test_programs_get_the_columns_they_request(
    client: httpx.AsyncClient, simulator: Simulator, report_type: str
) -> None:
    simulator.connect_account(ACCOUNT)
    simulator.add_report_type(report_type, live_only=False)
    payout = {"payout": "po_1", "interval_start": None, "interval_end": None} if ".by_id." in report_type else {}

    text = await csv_of(client, a_day(simulator, report_type=report_type, columns=ASKED_FOR[report_type], **payout))

    assert next(csv.reader(io.StringIO(text.decode()))) == ASKED_FOR[report_type]
    assert text.count(b"\n") > 1


@pytest.mark.parametrize("report_type", catalogue())
async def test_a_type_takes_what_it_is_known_to_take_and_nothing_else(
    client: httpx.AsyncClient, simulator: Simulator, report_type: str
) -> None:
    known = facts()["report_types"][report_type]
    end = simulator.add_report_type(report_type, live_only=False).data_available_end
    values = {"interval_start": end - DAY, "interval_end": end, "payout": "po_1", "connected_account": ACCOUNT}
    values |= {"timezone": "Asia/Tokyo", "currency": "usd", "reporting_category": "charge", "fee_category": "x"}
    values |= {"decimal_separator": ".", "compress_file": "true"}

    for name in values:
        given = {word: values[word] for word in known["required"]} | {name: values[name]}
        answer = await create(client, _form(report_type, given))

        takes = name in (*known["required"], *known["optional"], "compress_file")
        assert (answer.status_code, name) == (200 if takes else 400, name), answer.text


@pytest.mark.parametrize(
    "report_type", [name for name in catalogue() if facts()["report_types"][name]["columns_complete"]]
)
async def test_a_column_that_the_type_is_known_not_to_have_is_refused(
    client: httpx.AsyncClient, simulator: Simulator, report_type: str
) -> None:
    known = facts()["report_types"][report_type]
    end = simulator.add_report_type(report_type, live_only=False).data_available_end
    values = {"interval_start": end - DAY, "interval_end": end, "payout": "po_1", "connected_account": ACCOUNT}
    foreign = next(name for name in facts()["columns"] if name not in known["columns"])

    given: dict[str, object] = {word: values[word] for word in known["required"]}
    refused = await create(client, _form(report_type, given) | {"parameters[columns][0]": foreign})

    assert refused.status_code == 400
    assert error_of(refused)["param"] in ("parameters[columns]", "parameters[columns][0]")


async def test_the_api_lists_default_columns_by_the_alphabet_and_the_file_does_not(
    client: httpx.AsyncClient, simulator: Simulator
) -> None:
    kind = (await client.get("/v1/reporting/report_types/balance.summary.1")).json()
    text = await csv_of(client, a_day(simulator))

    assert kind["default_columns"] == ["category", "currency", "description", "net_amount"]
    assert text.startswith(b'"category","description","net_amount","currency"\n')


def test_a_type_with_unknown_columns_is_not_an_accounts_until_it_is_added() -> None:
    simulator = Simulator()
    unknown = [name for name, known in facts()["report_types"].items() if not known["columns"]]

    assert unknown
    assert not simulator.account().report_types.keys() & set(unknown)
    assert simulator.account().report_types.keys() == facts()["report_types"].keys() - set(unknown)
    assert simulator.add_report_type(unknown[0]).file_columns


def test_a_version_newer_than_the_catalogue_is_like_the_newest_known_one() -> None:
    newest, newer = template_for("payouts.itemized.5"), template_for("payouts.itemized.6")

    assert (newer.columns, newer.required, newer.optional) == (newest.columns, newest.required, newest.optional)


def _form(report_type: str, parameters: dict[str, object]) -> dict[str, str]:
    return {"report_type": report_type} | {f"parameters[{name}]": str(value) for name, value in parameters.items()}
