"""Planning: one availability event for 10,000 daily rules with a year of history each.

Beside it one SQL statement over the same rows: if nothing is due, a count of the rules that are due; for one window
each, an insert of all the runs with their first moves. Twice, with a quarter of the history and with all of it: the
cost of planning must follow what is due, not what has been.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

import psycopg
import uvloop

from app.db.engine import make_engine, make_sessions
from app.rules import schedule
from app.settings import load_settings
from app.stripe_api.objects import ReportTypeInfo
from benchmarks.harness import Row, against, alone, alternate, at_least, below
from benchmarks.history import History, write_rules, write_runs
from benchmarks.stage import Stage
from benchmarks.stripe import first_day, midnight

TYPE = "bench.type_0.1"
# With the same locks as ours; `for update` cannot count by itself.
_COUNT = """
select count(*) from (
    select p.id from rules join rule_progress as p on p.rule_id = rules.id
    where rules.account = 'default' and rules.report_type = %(type)s and rules.enabled and rules.deleted_at is null
      and p.next_due_at <= %(end)s for update of p
) as due
"""
_MAKE = """
with due as (
    select p.id as progress_id, p.planned_until as start, p.planned_until + interval '1 day' as stop, rules.*
    from rules join rule_progress as p on p.rule_id = rules.id
    where rules.account = 'default' and rules.report_type = %(type)s and rules.enabled and rules.deleted_at is null
      and p.next_due_at <= %(end)s for update of p
), made as (
    insert into runs (id, account, rule_id, report_type, window_key, interval_start, interval_end, timezone, parameters,
        state, attempts_granted)
    select gen_random_uuid(), account, id, report_type, to_char(start at time zone 'UTC', 'YYYY-MM-DD'), start, stop,
        timezone, jsonb_build_object('interval_start', extract(epoch from start)::bigint,
            'interval_end', extract(epoch from stop)::bigint), 'planned', 3
    from due on conflict do nothing returning id, account
), moved as (
    insert into run_moves (run_id, account, to_state, attempt, reason)
    select id, account, 'planned', 1, 'the window is due' from made
)
update rule_progress set planned_until = due.stop, next_due_at = due.stop + interval '1 day'
from due where rule_progress.id = due.progress_id
"""


@dataclass
class _Clock:
    """How far the data reaches: every measurement that makes runs moves it by a day."""

    url: str
    end: datetime = field(default_factory=midnight)

    def ours(self, advance: timedelta) -> float:
        """Seconds that planning takes when the data advances."""
        self.end += advance
        return uvloop.run(_told(self.url, self.end))

    def sql(self, statement: str, advance: timedelta) -> float:
        """Seconds that one statement takes for the same."""
        self.end += advance
        with psycopg.connect(self.url) as connection:
            began = time.perf_counter()
            connection.execute(statement, {"type": TYPE, "end": self.end})
            connection.commit()
            return time.perf_counter() - began


def measure(stage: Stage) -> Iterator[Row]:
    """Nothing due and one window each, with a quarter of the history and with all of it."""
    history = History(rules=1_000 if stage.short else 10_000, days=364)
    quarter = history.days // 4
    with stage.database() as url:
        write_rules(url, history)
        write_runs(url, range(quarter), files=False)
        some = _measure(stage, url)
        write_runs(url, range(quarter, history.days), files=False)
        all_of_it = _measure(stage, url)
    what = f"planning, {history.rules:,} rules"
    for name, aim in (("nothing due", below(1, "s")), ("one window each", below(10, "s"))):
        taken = all_of_it[name]
        yield alone(f"{what}, {history.days} days of history each: {name}", taken["ours"], "s", aim=aim)
        yield against(
            f"{what}: {name}", taken["ours"], "s", limit="one SQL statement", limits=taken["sql"], less_is_better=True
        )
        yield against(
            f"{what}: {name}, four times the history",
            *(taken["ours"], "s"),
            limit="a quarter of the history",
            limits=some[name]["ours"],
            aim=at_least(0.77),  # flat within 1.3 times
            less_is_better=True,
        )


def _measure(stage: Stage, url: str) -> dict[str, dict[str, list[float]]]:
    clock = _Clock(url)
    with psycopg.connect(url) as connection:
        # Runs that an earlier turn made are undone: every turn starts from the same state.
        connection.execute("delete from run_moves")
        connection.execute("delete from runs where interval_start >= %s", (midnight(),))
        connection.execute(
            "update rule_progress set planned_until = %s, next_due_at = %s",
            (midnight(), midnight() + timedelta(days=1)),
        )
        connection.execute("delete from report_types")
    rounds = 1 if stage.short else 3
    minute, day = timedelta(minutes=1), timedelta(days=1)
    idle: dict[str, Callable[[], float]] = {
        "ours": partial(clock.ours, minute),
        "sql": partial(clock.sql, _COUNT, minute),
    }
    due: dict[str, Callable[[], float]] = {"ours": partial(clock.ours, day), "sql": partial(clock.sql, _MAKE, day)}
    clock.ours(minute)  # warm
    return {"nothing due": alternate(rounds * 5, idle), "one window each": alternate(rounds, due)}


async def _told(url: str, end: datetime) -> float:
    settings = load_settings({"DATABASE_URL": url, "STRIPE_API_KEY": "sk_test_x"}, env_file=None)
    engine = make_engine(url, pool_size=1)
    start = datetime.combine(first_day(800), datetime.min.time(), end.tzinfo)
    info = ReportTypeInfo(TYPE, "Bench", 1, None, start, end, None, None)
    try:
        async with make_sessions(engine)() as session:
            await session.connection()
            began = time.perf_counter()
            await schedule.record_availability(session, "default", [info], attempts=settings.max_run_attempts)
            await session.commit()
            while await schedule.plan_any(session, attempts=settings.max_run_attempts):
                await session.commit()
            return time.perf_counter() - began
    finally:
        await engine.dispose()
