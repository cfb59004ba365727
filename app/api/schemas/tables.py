"""The schemas of tables, loads, facts about files, and checks."""

import uuid
from datetime import date
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, StrictBool

from app.api.schemas.common import Days, In, Name, Out, PageIn, Slug, Time
from app.tables.catalogue import Kind
from app.tables.checks.listing import CheckFilters
from app.tables.checks.results import Verdict
from app.tables.listing import LoadFilters

# Exact: most programs read a JSON number as a float.
Amount = Annotated[Decimal, PlainSerializer(lambda value: f"{value:f}", return_type=str)]
TableName = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[a-z0-9_]+$")]
_Word = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]


class LoadErrorOut(Out):
    """Why a file is not loaded: which row, if one is to blame, but never its values."""

    kind: Literal["unloadable", "internal"] | str
    message: str
    row: int | None = Field(default=None, description="Its number; the first data row is 1.")
    column: str | None = None
    expected: str | None = Field(default=None, description="The kind of value expected.")


class LoadOut(Out):
    """The state of a file's rows."""

    state: str = Field(description="`due`, `loaded`, `failed` or `removed`.")
    table: str
    rows: int | None
    header_sha256: str | None = Field(description="Of the header's names, joined by line feeds.")
    set_aside: list[str] | None = Field(description="Unknown columns, which are not loaded.")
    error: LoadErrorOut | None
    loaded_at: Time | None


class LoadDetailOut(LoadOut):
    """A load in a list."""

    id: int
    run_id: uuid.UUID
    rule_id: uuid.UUID | None
    account: str
    connected_account: str | None
    report_type: str
    revision: int
    is_current: bool = Field(description="The newest loaded revision of its window.")
    leads: bool = Field(description="Its rule leads. The plain view shows a load that leads and is current.")


class LoadFiltersIn(BaseModel):
    """A filter of loads; an omitted field matches any."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    state: Literal["due", "loaded", "failed", "removed"] | None = None
    table: TableName | None = None
    rule_id: uuid.UUID | None = None
    rule: Name | None = Field(default=None, description="The rule's name (or id), in place of `rule_id`.")
    account: Slug | None = None

    def filters(self) -> LoadFilters:
        """The same as the core takes it."""
        return LoadFilters(self.state, self.table, self.rule_id, self.account)


class LoadListIn(LoadFiltersIn, PageIn):
    """Which loads to list, and where to start."""


class LoadMatchingIn(In):
    """Which stored files to load: those not loaded yet or failed; with `again`, loaded ones too."""

    state: Literal["loaded", "failed"] | None = Field(
        default=None, description="Only files whose load is in this state; `loaded` needs `again`."
    )
    table: TableName | None = None
    rule_id: uuid.UUID | None = None
    rule: Name | None = Field(default=None, description="The rule's name (or id), in place of `rule_id`.")
    account: Slug | None = None
    again: StrictBool = False


class LoadsAskedOut(Out):
    """How many files will be loaded."""

    loads: int


class SumOut(Out):
    """The sums of a category in a currency."""

    category: str
    currency: str
    rows: int
    gross: Amount | None
    fee: Amount | None
    net: Amount | None


class FactsOut(Out):
    """The facts about a loaded file."""

    rows: int
    header: list[str]
    header_sha256: str
    set_aside: list[str]
    first_created: str | None = Field(description="As written in the file: in UTC or in the run's zone.")
    last_created: str | None
    key_unique: bool | None = Field(description="Null if the report has no key, or the file lacks its columns.")
    net_breaks: int | None = Field(description="Rows where net is not gross - fee.")
    sums: list[SumOut] = Field(description="Without a summary's `total` line.")


class RowOut(Out):
    """A row of a file, its values as text."""

    row: int
    values: dict[str, str | None]


class RowsIn(PageIn):
    """Which rows to show."""

    personal: bool = Field(default=False, description="Include the personal columns that are loaded; admins only.")


class DiffIn(PageIn):
    """The revision to compare with, and whether to show rows."""

    against: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = Field(
        default=None, description="A revision; default: the previous loaded one."
    )
    rows: Literal["added", "removed", "changed"] | None = None
    personal: bool = Field(default=False, description="Include the personal columns that are loaded; admins only.")


class CurrencyDeltaOut(Out):
    """By how much a currency's sums changed."""

    currency: str
    gross: Amount | None
    fee: Amount | None
    net: Amount | None


class DiffRowOut(Out):
    """A row that is different. An added one has no `before`, a removed one no `after`."""

    row: int | None
    before: dict[str, str | None] | None
    after: dict[str, str | None] | None


class DiffOut(Out):
    """How a revision differs from an earlier one."""

    against: int
    added: int
    removed: int
    changed: int
    columns: dict[str, int] = Field(description="In how many rows each column changed.")
    left_out: list[str] = Field(description="Columns that only one of the two has.")
    sums: list[CurrencyDeltaOut]
    data: list[DiffRowOut] | None = Field(default=None, description="With `rows`: a page of them, by their key.")
    next_cursor: str | None = None


class TableOut(Out):
    """The rows of one report, over all its versions."""

    name: str
    report_types: list[str]
    rows: int = Field(description="Those that the plain view shows.")
    files: int
    failed: int
    newest_interval_end: Time | None
    set_aside: list[str]


class ColumnOut(Out):
    """A column."""

    name: str
    state: str = Field(description="`loaded`, `approved`, `withheld` (personal), `set_aside` or `ignored`.")
    kind: Kind | str
    personal: bool
    zone: str | None = Field(description="For times: `utc`, `run` (the run's zone) or `date`.")
    meaning: str | None
    filled: int = Field(description="For a column that is not loaded: in how many rows of one file it has a value.")
    longest: int


class LeaderOut(Out):
    """A rule whose windows the plain view shows, from its first to its last one."""

    rule_id: uuid.UUID
    rule: str
    account: str
    connected_account: str | None = Field(description="`*`: all connected accounts together.")
    starts_at: Time
    ends_at: Time | None


class CheckWindowOut(Out):
    """The window of a verdict or a file; `first` and `last` are local dates, both inside it."""

    first: date | None
    last: date | None
    interval_start: Time | None
    interval_end: Time | None
    timezone: str | None


class ColumnsChangedOut(Out):
    """A file that has other columns than the file before it of the same rule."""

    rule_id: uuid.UUID
    rule: str
    account: str
    connected_account: str | None
    run_id: uuid.UUID
    window: CheckWindowOut
    added: list[str]
    removed: list[str]
    at: Time | None = Field(description="When the file was stored.")


class TableDetailOut(TableOut):
    """A table with its columns, the rules that lead it, and what changed."""

    in_schema: str = Field(description="The schema of its plain view.")
    columns: list[ColumnOut]
    leaders: list[LeaderOut]
    changes: list[ColumnsChangedOut] = Field(
        description="Where the header changed from one file to the next: the newest 20, newest first."
    )


class ColumnIn(In):
    """What to do with an unknown column."""

    state: Literal["approved", "ignored"]
    kind: Kind | None = Field(
        default=None, description="The kind of its values; by default the one that its name suggests."
    )
    personal: StrictBool = Field(default=True, description="Shown in the personal schema only.")


class VerdictOut(Out):
    """Two numbers that must agree."""

    id: int
    name: str
    verdict: Verdict | str
    account: str
    connected_account: str | None
    window: CheckWindowOut
    currency: str
    left: Amount | None
    right: Amount | None
    difference: Amount | None
    reason: str | None
    loads: list[int] = Field(description="The loads that were compared.")
    note: str | None
    at: Time


class CheckListIn(Days, PageIn):
    """Which verdicts to list: the newest on each subject or, with `history`, all of them."""

    verdict: Verdict | None = None
    name: _Word | None = None
    rule_id: uuid.UUID | None = None
    rule: Name | None = Field(default=None, description="The rule's name (or id), in place of `rule_id`.")
    run_id: uuid.UUID | None = Field(
        default=None, description="Only those that compare this run's file: the newest on each subject."
    )
    account: Slug | None = None
    history: bool = False

    def filters(self) -> CheckFilters:
        """The same as the core takes it. Raises BadInput."""
        verdict = None if self.verdict is None else self.verdict.value
        return CheckFilters(
            verdict, self.name, self.rule_id, self.account, self.first, self.end(), self.history, self.run_id
        )


class NoteIn(In):
    """A note about a verdict."""

    note: Annotated[str, Field(min_length=1, max_length=2000, pattern=r"^[^\x00]*$")]
