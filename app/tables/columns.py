"""Which columns of a file are loaded, under which names, and which are set aside. Pure."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from app.tables.catalogue import Family, Kind, Personal, find_column, is_metadata

# PostgreSQL cuts longer names silently.
_NAME_BYTES = 63
METADATA = "_metadata"


class ColumnState(StrEnum):
    """What is done with a column of a table's files."""

    LOADED = "loaded"
    APPROVED = "approved"  # unknown to the catalogue, and loaded because somebody approved it
    WITHHELD = "withheld"  # personal, and no rule names it
    SET_ASIDE = "set_aside"  # unknown, until somebody approves or ignores it
    IGNORED = "ignored"


@dataclass(frozen=True, slots=True)
class KnownColumn:
    """What the table already knows about a column of this name."""

    state: ColumnState
    kind: Kind
    personal: bool


@dataclass(frozen=True, slots=True)
class Field:
    """A column of the file that is loaded. `sql_name` is the table's; None for a key of metadata."""

    index: int
    name: str
    kind: Kind
    personal: bool
    sql_name: str | None


@dataclass(frozen=True, slots=True)
class Left:
    """A column of the file that is not loaded, and why."""

    index: int
    name: str
    kind: Kind
    personal: bool
    state: ColumnState


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """What is done with each column of a file."""

    fields: tuple[Field, ...]
    left: tuple[Left, ...]

    @property
    def set_aside(self) -> list[str]:
        """The unknown columns that were not ignored."""
        return [column.name for column in self.left if column.state is ColumnState.SET_ASIDE]


def changed_text(added: Sequence[str], removed: Sequence[str]) -> str:
    """Which columns came and went, in words: `new columns a, b; removed column c`."""
    changes = (("new", added), ("removed", removed))
    return "; ".join(f"{what} column{'s' * (len(names) > 1)} {', '.join(names)}" for what, names in changes if names)


def plan_columns(
    header: Sequence[str],
    family: Family,
    known: Mapping[str, KnownColumn],
    *,
    personal: Collection[str],
    all_personal: bool = False,
) -> ColumnPlan:
    """Decide on every column of a header. `personal` are the columns that the rule names. What the table knows about
    a column wins over the catalogue: a kind once given is never changed by a file."""
    fields: list[Field] = []
    left: list[Left] = []
    for index, name in enumerate(header):
        kind, is_personal, state = _judge(name, family, known.get(name))
        if state is ColumnState.WITHHELD and (all_personal or name in personal):
            state = ColumnState.LOADED
        if state in (ColumnState.LOADED, ColumnState.APPROVED):
            fields.append(Field(index, name, kind, is_personal, None if is_metadata(name) else sql_name(name)))
        else:
            left.append(Left(index, name, kind, is_personal, state))
    return ColumnPlan(tuple(fields), tuple(left))


def _judge(name: str, family: Family, known: KnownColumn | None) -> tuple[Kind, bool, ColumnState]:
    if known is not None and known.state in (ColumnState.APPROVED, ColumnState.IGNORED):
        return known.kind, known.personal, known.state
    found = find_column(name) if family.is_known else None
    if found is None:
        return suggested_kind(name), True, ColumnState.SET_ASIDE
    kind = found.kind if known is None else known.kind
    state = ColumnState.WITHHELD if found.personal.is_withheld else ColumnState.LOADED
    return kind, found.personal.is_withheld, state


def suggested_kind(name: str) -> Kind:
    """What an unknown column probably holds, judging by its name: only a suggestion for its approval."""
    if (found := find_column(name)) is not None:
        return found.kind
    if name.endswith(("_utc", "_at", "_created", "_date")) or name.startswith(("created", "available_on")):
        return Kind.TIMESTAMP
    if name in ("gross", "fee", "net", "amount", "tax", "total", "subtotal"):
        return Kind.DECIMAL
    if name.endswith(("_amount", "_total")) or name.startswith("total_"):
        return Kind.DECIMAL
    return Kind.INTEGER if name == "count" else Kind.TEXT


def is_withheld_by_default(name: str) -> bool:
    """Whether a column is loaded only for rules that ask for it; unknown ones count as personal."""
    found = find_column(name)
    return (Personal.YES if found is None else found.personal).is_withheld


def sql_name(name: str) -> str:
    """The name of a column, or table, in PostgreSQL: the same, unless it is too long or looks like one of ours."""
    name = f"column{name}" if name.startswith("_") else name
    if len(name.encode()) <= _NAME_BYTES:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return name.encode()[: _NAME_BYTES - 9].decode(errors="ignore") + "_" + digest
