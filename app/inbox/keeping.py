"""Stores events, each exactly once: inserts it or does nothing, and has it handled again if it never was."""

from collections.abc import Iterator, Sequence

from psycopg.pq.abc import PGresult

from app.db.arrays import bool_array, instant_array, text_array
from app.db.own_connection import OwnConnection
from app.inbox.delivery import IncomingEvent


async def keep(own: OwnConnection, columns: Sequence[bytes]) -> tuple[int, int]:
    """Store these different events, `packed`; returns how many are new, and how many of those are to be handled."""
    new, due = _numbers(await own.execute(_KEEP, columns))
    return new, due


async def handle_again(own: OwnConnection, columns: Sequence[bytes]) -> int:
    """Have those of these events that are known but not handled handled again; returns how many."""
    (again,) = _numbers(await own.execute(_HANDLE_AGAIN, columns[:2]))
    return again


def _numbers(result: PGresult) -> Iterator[int]:
    """The numbers (bigint) in the one row of an answer."""
    for column in range(result.nfields):
        value = result.get_value(0, column)
        assert value is not None
        yield int.from_bytes(value, "big", signed=True)


def packed(events: Sequence[IncomingEvent]) -> tuple[bytes, ...]:
    """The columns of these events, in the order of the statement."""
    return (
        text_array([event.account for event in events]),
        text_array([event.stripe_event_id for event in events]),
        text_array([event.type for event in events]),
        text_array([event.object_id for event in events]),
        bool_array([event.livemode for event in events]),
        instant_array([event.created for event in events]),
        text_array([event.payload for event in events]),
        text_array([event.payload_sha256 for event in events]),
        text_array([event.status.value for event in events]),
        text_array([event.reason for event in events]),
        text_array([event.signed_with for event in events]),
        text_array([event.traceparent for event in events]),
    )


# The arrays come packed (app/db/arrays): as text, psycopg would escape every quote in Python and undo the gain.
_KEEP = """
with kept as (
    insert into events (account, stripe_event_id, type, object_id, livemode, stripe_created_at, payload,
        payload_sha256, status, reason, signed_with, traceparent)
    select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bool[], $6::timestamptz[], $7::text[],
        $8::text[], $9::text[], $10::text[], $11::text[], $12::text[])
    on conflict (account, stripe_event_id) do nothing returning status
)
select count(*), count(*) filter (where status = 'pending') from kept
"""
# Only what is not handled yet, and without waiting: an event that a worker has locked is being handled.
_HANDLE_AGAIN = """
with again as (
    update events set due_at = clock_timestamp(), status = 'pending', tries = 0
    from unnest($1::text[], $2::text[]) as given(account, stripe_event_id) cross join lateral (
        select id from events as known
        where known.account = given.account and known.stripe_event_id = given.stripe_event_id
          and known.status in ('pending', 'failed') for update skip locked
    ) as not_completed
    where events.id = not_completed.id returning 1
)
select count(*) from again
"""
