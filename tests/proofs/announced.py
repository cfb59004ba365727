"""Messages in a story: a target that wants all of them, its receiver, and whether every fact was announced and arrived.

A fact and its message are born in one transaction: PostgreSQL marks their rows with the same number (`xmin`).
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace

from sqlalchemy import RowMapping
from starlette.types import Message, Receive, Scope, Send

from app.errors import Conflict
from app.resources import Resources
from app.targets import recovery, store
from app.targets.check import NewTarget
from app.vocabulary import TargetKind
from tests.service import at, fetch
from tests.targets.receivers import Received, WebReceiver

SETTINGS = {
    "TALLYHOOK_SIGNING_KEY": "a-signing-key-of-more-than-32-characters",
    "TALLYHOOK_TARGET_NETWORKS": "127.0.0.0/8",
}


@dataclass(slots=True)
class Hook(WebReceiver):
    """The receiver of a story. `accepted` is what it has answered with 200."""

    accepted: list[Received] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def answer(message: Message) -> None:
            if message.get("status") == 200:
                self.accepted.append(self.received[-1])
            await send(message)

        await WebReceiver.__call__(self, scope, receive, answer)

    async def forget_what_was_lost(self, res: Resources) -> None:
        """After a restore: what the database no longer knows was announced by a past that has not happened."""
        known = {str(row["id"]) for row in await fetch(res, "select id from messages")}
        self.accepted = [one for one in self.accepted if _id(one) in known]


async def add_target(res: Resources, hook: Hook) -> None:
    """A target that wants every message, unless it is there."""
    new = NewTarget("ledger", TargetKind.WEBHOOK, hook.url, [], ["*"], None, None)
    with suppress(Conflict):
        async with res.sessions.begin() as session:
            await store.create(session, new, settings=res.settings, by="test")


async def send_again(res: Resources) -> None:
    """What an operator does about a disabled target: enable it, and send what it missed."""
    async with res.sessions.begin() as session:
        for target in await store.read_all(session, lock=True):
            enabled = replace(store.as_it_is(target), enabled=True)
            await store.change(session, target, enabled, settings=res.settings, by="test")
            await recovery.recover(session, target.id, at("2026-01-01"))


async def broken_about_messages(res: Resources, hook: Hook) -> list[str]:
    """In words: facts without a message, messages without a fact, and what has not arrived once all has settled."""
    facts = await fetch(res, _FACTS_AND_MESSAGES)
    messages = await fetch(res, _MESSAGES)
    return [*_unequal(facts), *_undelivered(messages, hook)]


def _unequal(facts: list[RowMapping]) -> Iterator[str]:
    for one in facts:
        what = f"{one['type']} of {one['about']}"
        yield (
            f"{what} has no message of its transaction"
            if one["happened"]
            else f"{what} was announced, and has not happened"
        )


def _undelivered(messages: list[RowMapping], hook: Hook) -> Iterator[str]:
    accepted = {_id(one): one for one in hook.accepted}
    for message in messages:
        arrived = accepted.pop(str(message["id"]), None)
        if message["state"] != "delivered":
            yield f"message {message['dedupe_key']} is {message['state'] or 'on its way to nobody'}"
        elif arrived is None:
            yield f"message {message['dedupe_key']} counts as delivered, and the receiver has not accepted it"
        elif arrived.message["type"] != message["type"]:
            yield f"message {message['dedupe_key']} arrived as {arrived.message['type']}"
    yield from (f"{one.message} arrived, and there is no such message" for one in accepted.values())
    bodies = {(_id(one), one.body) for one in hook.accepted}
    if len(bodies) > len({_id(one) for one in hook.accepted}):
        yield "a message arrived twice with different bytes"


def _id(one: Received) -> str:
    return one.headers["webhook-id"]


# A state that has ended leaves no row: the messages of its beginning and its end then stand for each other.
_FACTS_AND_MESSAGES = """
with facts as (
    select 'run.' || to_state as type, run_id::text as about, run_moves.xmin::text as born
    from run_moves join runs on runs.id = run_id
    where to_state in ('stored', 'failed', 'cancelled') and not recheck
    union all select type, subject, xmin::text from notices
    union all select action, subject, xmin::text from audit
    where action = 'target.disabled' and subject in (select id::text from targets)
), announced as (
    select type, case when type = 'target.disabled' then data #>> '{target,id}' else subject end as about,
        xmin::text as born,
        data ? 'state' and count(*) over (partition by regexp_replace(dedupe_key, '/(began|ended)$', '')) = 2 as is_over
    from messages
)
select type, about, facts.happened is not null as happened
from (select *, true as happened from facts) as facts full join announced using (type, about, born)
where facts.happened is null and not is_over or announced.is_over is null
"""
_MESSAGES = """
select messages.id, type, dedupe_key, state from messages left join deliveries on message_id = messages.id
order by messages.id
"""
