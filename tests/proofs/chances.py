"""What a story is made of: the failures, steps and rules that the search draws from."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from app import handlers
from app.resources import Resources
from app.rules.slices import work_slice
from app.runs.download import claim_downloads, download
from app.runs.lookup import claim_lookups, look_up
from app.runs.request import request_run
from app.runs.request_claim import claim_requests
from app.targets.send import claim_deliveries, deliver
from app.vocabulary import Cadence
from tests.proofs.model import ModelRule, schedule
from tests.proofs.stage import OTHER_TYPE, everything_due, timetable_due
from tests.service import REPORT_TYPE, download_due, look_up_due, request_due
from tests.targets.stories import send_due

LISTS = "GET .*/report_runs$"
CALLS = (
    "GET /v1/account$",
    "GET .*/report_types$", "POST .*/report_runs$", LISTS, "GET .*/report_runs/.*", "GET .*/contents$",
)  # fmt: skip
CALL_TROUBLE: tuple[dict[str, Any], ...] = (
    {"fault": "status", "status": 401},
    {"fault": "status", "status": 403},
    {"fault": "status", "status": 429},
    {"fault": "status", "status": 409},
    {"fault": "status", "status": 500},
    {"fault": "status", "status": 500, "when": "during"},
    {"fault": "status", "status": 503, "when": "after"},
    {"fault": "cut"},
    {"fault": "cut", "when": "after"},
)
# What Stripe may say to a key that is asked whose it is, beside the truth: nothing of it proves anything.
ACCOUNT_ANSWERS: tuple[dict[str, Any] | None, ...] = (
    None,
    *({"fault": "status", "status": status} for status in (400, 401, 403, 429, 500)),
    {"fault": "cut"},
)
# What a rule may be changed to.
EDITS: tuple[dict[str, Any], ...] = (
    {"parameters": {"currency": "usd"}},
    {"parameters": {"currency": "eur"}},
    {"parameters": {}},
    {"settle_hours": 0.0},
)
# What changes which windows it owes; its time zone can only change while it has no runs.
EDITS_OF_TIME: tuple[dict[str, Any], ...] = (
    {"timezone": "UTC"},
    {"timezone": "America/Los_Angeles"},
    {"starts_on": date(2026, 2, 24)},
    {"starts_on": date(2026, 3, 4)},
    {"enabled": False},
    {"enabled": True},
)
RUN_TROUBLE = ("run_fails", "run_hangs", "run_instant", "url_null", "url_elsewhere")
FILE_TROUBLE = (
    "file_cut", "file_cut_silently", "file_short", "file_long", "file_empty", "file_chunked", "file_gone",
    "file_redirect", "file_gzip",
)  # fmt: skip
# What a target's receiver answers next; it accepts everything after that.
TARGET_ANSWERS: tuple[list[int | tuple[int, dict[str, str]]], ...] = (
    [500], [500] * 12, [410], [503, 410], [(429, {"retry-after": "3600"})], [302],
)  # fmt: skip
Claiming = Callable[[Resources, int], Coroutine[Any, Any, list[Any]]]
Doing = Callable[[Resources, Any], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Work:
    """What is claimed first and done then, and the lanes that bring it."""

    claim: Claiming
    do: Doing
    brought_by: tuple[Callable[[Resources], Coroutine[Any, Any, object]], ...]


CLAIMED_WORK = (
    Work(claim_requests, request_run, (timetable_due,)),
    Work(claim_lookups, look_up, (timetable_due, request_due)),
    Work(partial(claim_downloads, big=False), download, (timetable_due, request_due, look_up_due)),
    Work(claim_deliveries, deliver, (timetable_due, request_due, look_up_due, download_due)),
)
LANES = (timetable_due, handlers.drain, work_slice, request_due, look_up_due, download_due, send_due,
         everything_due)  # fmt: skip

some = st.integers(0, 1000)
# Later ones have no data when the story begins, and so no runs.
starts = st.dates(date(2026, 2, 23), date(2026, 3, 6))
# With the stricter bounds of the other type, a rule that follows updates rightly stays one advance behind.
CADENCES = ((REPORT_TYPE, Cadence.DAILY), (REPORT_TYPE, Cadence.EVERY_UPDATE), (REPORT_TYPE, Cadence.WEEKLY),
            (OTHER_TYPE, Cadence.DAILY), (OTHER_TYPE, Cadence.WEEKLY))  # fmt: skip
rules = st.builds(
    lambda kind, timezone, starts_on: ModelRule(UUID(int=0), kind[0], schedule(kind[1], timezone, starts_on)),
    st.sampled_from(CADENCES),
    st.sampled_from(["UTC", "America/Los_Angeles"]),
    starts,
)
