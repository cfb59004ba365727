"""The house laws hold, and each guard sees a planted breach. Lists of known breaches only shrink."""

import textwrap

import pytest

from tests.guards import laws
from tests.guards.laws import Law, Source, breaches

# `clock_timestamp()` is volatile and cannot be a condition of an index. These read or delete a few among many rows.
THROUGH_AN_INDEX = {
    "app/health/rows.py: run.due_at < now()",
    "app/inbox/events.py: received_at < now()",
    "app/rules/forecast.py: stored_at > now()",
    "app/targets/recovery.py: created_at < now()",
    "app/upkeep/retention.py: stored_at < now()",
}
# Take an entry off when it is mended; nothing is ever added.
KNOWN: dict[Law, set[str]] = {
    laws.rows_without_a_type: set(),
    laws.rows_read_by_attribute: set(),
    laws.errors_elsewhere: set(),
    laws.folders_that_say_nothing: set(),
    laws.files_too_long: set(),
    laws.compared_with_now: THROUGH_AN_INDEX,
    laws.names_of_the_dialect: set(),
    laws.which_run_counts: set(),
}
# One table after the other: the only lists of them.
LONG_BUT_ONE_STORY = {"app/db/models.py", "app/db/alembic_models.py"}


@pytest.mark.parametrize("law", KNOWN, ids=lambda law: law.__name__)
def test_a_law_is_not_broken_anywhere_new(law: Law) -> None:
    assert breaches(law) - KNOWN[law] - LONG_BUT_ONE_STORY == set(), law.__doc__


@pytest.mark.parametrize("law", KNOWN, ids=lambda law: law.__name__)
def test_fixed_breaches_are_off_the_list(law: Law) -> None:
    assert KNOWN[law] - breaches(law) == set()


def test_every_folder_with_code_is_a_package() -> None:
    paths = {source.path for source in laws.sources()}

    assert {f"{path.rpartition('/')[0]}/__init__.py" for path in paths} - paths == set()


READ_ONE = """
async def f(session):
    found = (await session.execute(_RUN)).first()
    return found is not None and found.state
"""
READ_MANY = """
async def f(session):
    found = (await session.execute(_RUNS)).all()
    return [row.id for row in found]
"""
READ_IN_TURN = """
async def f(session):
    for row in await session.execute(_RUNS, {"limit": 3}):
        print(row.id)
"""
READ_TYPED = """
async def f(session):
    found = await session.execute(_IDS)
    run = await fetch_one(session, _Run, _RUN)
    return [Run(*row) for row in await session.execute(_RUNS)], found.scalars(), run.state
"""
PLANTED: list[tuple[Law, str, str, list[str]]] = [
    (laws.rows_without_a_type, "app/x.py", "def why(run: Any) -> None: ...", ["app/x.py: why(run)"]),
    (laws.rows_without_a_type, "app/x.py", "async def f(*, type_: Any | None): ...", ["app/x.py: f(type_)"]),
    (laws.rows_without_a_type, "app/x.py", "def f(rows: Sequence[Any]): ...", ["app/x.py: f(rows)"]),
    (laws.rows_without_a_type, "app/x.py", "class Due:\n    progress: Any\n", ["app/x.py: progress"]),
    (laws.rows_without_a_type, "app/x.py", "def f(run: Run, event: dict[str, Any], value: Any): ...", []),
    (laws.rows_read_by_attribute, "app/x.py", READ_ONE, ["app/x.py: f: found.state"]),
    (laws.rows_read_by_attribute, "app/x.py", READ_MANY, ["app/x.py: f: row.id"]),
    (laws.rows_read_by_attribute, "app/x.py", READ_IN_TURN, ["app/x.py: f: row.id"]),
    (laws.rows_read_by_attribute, "app/x.py", READ_TYPED, []),
    (laws.errors_elsewhere, "app/x.py", "class Lost(Exception): ...", ["app/x.py: Lost"]),
    (laws.errors_elsewhere, "app/x.py", "class Lost(ValueError): ...", ["app/x.py: Lost"]),
    (laws.errors_elsewhere, "app/x.py", "class Lost(errors.NotNow): ...", ["app/x.py: Lost"]),
    (laws.errors_elsewhere, "app/x.py", "class _OfThisFile(Exception): ...\nclass Row: ...", []),
    (laws.errors_elsewhere, "app/errors.py", "class Lost(Exception): ...", []),
    (laws.folders_that_say_nothing, "app/x/__init__.py", "from app.x.y import z", ["app/x/__init__.py"]),
    (laws.folders_that_say_nothing, "app/x/__init__.py", '"""What x is for."""', []),
    (laws.folders_that_say_nothing, "app/x/y.py", "z = 1", []),
    (laws.files_too_long, "app/x.py", "z = 1\n" * (laws.MOST_LINES + 1), ["app/x.py"]),
    (laws.files_too_long, "app/x.py", "z = 1\n" * laws.MOST_LINES, []),
    (laws.compared_with_now, "app/x.py", '"where run.due_at\n <= now()"', ["app/x.py: run.due_at <= now()"]),
    (laws.compared_with_now, "app/x.py", '"where now() > due_at"', ["app/x.py: now() >"]),
    (
        laws.compared_with_now,
        "app/x.py",
        "target.previous_until = func.now()",
        ["app/x.py: previous_until = func.now()"],
    ),
    (laws.compared_with_now, "app/x.py", '"update runs set due_at = now(), tries = 0"', ["app/x.py: due_at = now()"]),
    (laws.compared_with_now, "app/x.py", "\":seconds * interval '1 s'\"", ["app/x.py: * interval"]),
    (laws.compared_with_now, "app/x.py", '"set stored_at = now(), ready_at = coalesce(ready_at, now())"', []),
    (laws.compared_with_now, "app/x.py", '"where due_at <= clock_timestamp()"; age = clock.now() - begun', []),
    (laws.compared_with_now, "app/simulator/x.py", "age = now() - begun", []),
    (laws.names_of_the_dialect, "app/x.py", "def settle(told: Runs): return told", ["app/x.py: told"]),
    (laws.names_of_the_dialect, "app/x.py", "class Trouble:\n    told: str", ["app/x.py: told"]),
    (laws.names_of_the_dialect, "app/x.py", "def tell(untold: str): return 'told'", []),
    (laws.which_run_counts, "app/x.py", "\"order by runs.state = 'stored'\n desc, revision\"", ["app/x.py: line 1"]),
    (laws.which_run_counts, "app/x.py", "\"where state = 'stored' order by revision desc\"", []),
    (laws.which_run_counts, "app/rules/rechecks.py", "COUNTED_FIRST = \"state = 'stored' desc\"", []),
]


@pytest.mark.parametrize(("law", "path", "text", "expected"), PLANTED)
def test_a_planted_breach_is_seen(law: Law, path: str, text: str, expected: list[str]) -> None:
    assert list(law(Source(path, textwrap.dedent(text)))) == expected
