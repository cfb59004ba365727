"""The lane's step: send what was claimed, and record the result. One sender for each kind of target."""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import structlog

from app.observability import log_lines
from app.observability.logs import redact
from app.resources import Resources
from app.targets import deliveries, folder, mail, slack, store, webhook
from app.targets.answers import Answer
from app.targets.deliveries import DeliveryClaim, Outcome
from app.targets.schedule import seconds_until_retry
from app.vocabulary import TargetKind

log = structlog.get_logger()

LONGEST_ANSWER = 1024

Sender = Callable[[Resources, DeliveryClaim], Awaitable[Answer]]

SENDERS: Mapping[TargetKind, Sender] = {
    TargetKind.WEBHOOK: webhook.send,
    TargetKind.EMAIL: mail.send,
    TargetKind.SLACK: slack.send,
    TargetKind.FOLDER: folder.send,
}


async def claim_deliveries(res: Resources, limit: int) -> list[DeliveryClaim]:
    """Claim due messages for up to `limit` calls."""
    # Renewed while being sent, like every lane's claims: a dead worker's are taken over as soon as its other claims.
    seconds = res.settings.stalled_after_seconds
    async with res.sessions.begin() as session:
        return await deliveries.claim(
            session, worker=res.worker_id, seconds=seconds, limit=limit, signs=bool(res.settings.signing_key)
        )


async def deliver(res: Resources, claim: DeliveryClaim) -> None:
    """Send it and record the result; a target that is gone, or has failed for days, is disabled, and others are
    notified."""
    outcome = await attempt(res, claim)
    retry_in = [
        seconds_until_retry(message.tries + 1, retry_after=outcome.retry_after, random=res.random)
        for message in claim.messages
    ]
    async with res.sessions.begin() as session:
        await deliveries.record(session, claim, outcome.recorded, retry_in=retry_in)
        if not outcome.recorded.delivered:
            await store.disable_if_hopeless(
                session,
                claim.target.id,
                is_gone=outcome.recorded.is_gone,
                after_days=res.settings.target_disable_days,
            )
    word = "delivered" if outcome.recorded.delivered else "failed"
    res.metrics.target_deliveries.labels(claim.target.name, word).inc()
    log_lines.annotate(outcome=word, status=outcome.recorded.status, about=outcome.recorded.error)


async def crashed(res: Resources, claim: DeliveryClaim, error: Exception) -> None:
    """An error of ours counts as a failed try, so that it is seen and comes to an end."""
    outcome = Outcome(delivered=False, milliseconds=0, error=f"internal: {type(error).__name__}")
    retry_in = [seconds_until_retry(message.tries + 1, random=res.random) for message in claim.messages]
    async with res.sessions.begin() as session:
        await deliveries.record(session, claim, outcome, retry_in=retry_in)


@dataclass(frozen=True, slots=True)
class Attempted:
    """The attempt to record, and how long the receiver asked us to wait, in seconds."""

    recorded: Outcome
    retry_after: float | None


async def attempt(res: Resources, claim: DeliveryClaim) -> Attempted:
    """Send once; every failure is an answer, never an exception."""
    started = time.monotonic()
    try:
        answer = await SENDERS[TargetKind(claim.target.kind)](res, claim)
    except Exception as error:  # an error of ours must not stop the lane; the attempt shows it
        log.exception("delivery.crashed", target=claim.target.name, kind=claim.target.kind)
        log_lines.annotate(crashed=type(error).__name__)
        answer = Answer(error=f"internal: {type(error).__name__}")
    milliseconds = round((time.monotonic() - started) * 1000)
    shown = None if answer.text is None else redact(answer.text[:LONGEST_ANSWER])
    delivered = answer.error is None and answer.status is not None and 200 <= answer.status < 300
    recorded = Outcome(delivered, milliseconds, answer.status, answer.error, shown, is_gone=answer.status == 410)
    return Attempted(recorded, answer.retry_after)
