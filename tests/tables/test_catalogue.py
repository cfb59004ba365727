"""The catalogue is whole: every name leads somewhere, and nothing that it says would break a table."""

import pytest

from app.tables.catalogue import Kind, Personal, catalogue, family_of, find_column, is_metadata

NAME_BYTES = 63


def test_every_column_of_every_type_is_known_with_its_kind_and_meaning() -> None:
    known = catalogue()

    for report_type in known.report_types.values():
        assert report_type.family in known.families
        for name in (*report_type.columns, *report_type.default_columns):
            assert name in known.columns, f"{report_type.id} has {name}"
    for column in known.columns.values():
        assert column.meaning, column.name


def test_names_fit_into_postgresql_and_never_begin_like_columns_of_ours() -> None:
    known = catalogue()

    tables = [family.table for family in known.families.values()]
    assert len(set(tables)) == len(tables)
    for name in (*tables, *known.columns):
        assert len(name.encode()) <= NAME_BYTES
        assert not name.startswith(("_", "tallyhook_")), name


def test_the_folders_of_the_parquet_store_collide_with_no_column() -> None:
    assert not {"report", "tallyhook_account", "tallyhook_connected", "tallyhook_window"} & set(catalogue().columns)


def test_times_say_in_which_zone_they_are() -> None:
    for column in catalogue().columns.values():
        assert (column.zone is not None) == (column.kind is Kind.TIMESTAMP), column.name
        if column.name.endswith("_utc"):
            assert column.zone == "utc"


@pytest.mark.parametrize(
    ("report_type", "table"),
    [
        ("balance_change_from_activity.itemized.6", "balance_change_from_activity_itemized"),
        ("balance_change_from_activity.itemized.latest", "balance_change_from_activity_itemized"),
        ("connected_account_payouts.summary.1", "connected_payouts_summary"),
    ],
)
def test_versions_share_a_table(report_type: str, table: str) -> None:
    assert family_of(report_type).table == table
    assert family_of(report_type).is_known


def test_an_unknown_family_has_a_table_to_wait_for_but_no_key() -> None:
    family = family_of("connected_account_radar.decisions.3")

    assert (family.id, family.table, family.row_key) == (
        "connected_account_radar.decisions",
        "connected_radar_decisions",
        None,
    )
    assert not family.is_known


def test_metadata_is_known_by_its_kind_and_personal_whatever_its_key() -> None:
    for name in ("payment_metadata[order_id]", 'payment_metadata[any key, even "a ""b"", c]', "refund_metadata[]"):
        column = find_column(name)
        assert column is not None
        assert column.personal is Personal.FREE_TEXT
        assert is_metadata(name)


@pytest.mark.parametrize("name", ["payment_metadata", "other_metadata[x]", "Net", "net ", "unheard_of", ""])
def test_what_is_not_known_by_its_exact_name_is_unknown(name: str) -> None:
    assert find_column(name) is None
