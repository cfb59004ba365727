"""Carries out a call once: idempotency keys, and faults that strike before, during or after its effect."""

import asyncio
from collections.abc import Mapping

from app.simulator.errors import ApiError, rate_limited
from app.simulator.faults import Fault, When
from app.simulator.http.calls import Answer, Call, Handler, refusal

MESSAGES = {
    401: "Invalid API Key provided.",
    403: "The provided key does not have the required permissions for this endpoint.",
    409: "There is currently another in-progress request using this Idempotent Key. Please try again later.",
    500: "An unknown error occurred",
}


LONGEST_WAIT = 5.0
"""Seconds that an answer waits for an event that has to overtake it."""
LONGEST_KEY = 255


class ConnectionCut(Exception):
    """The caller gets no answer. `answer` is what it would have got, if the call took effect."""

    def __init__(self, answer: Answer | None = None) -> None:
        super().__init__("the connection is cut here")
        self.answer = answer


async def disturb(faults: Mapping[str, Fault], when: When, answer: Answer | None = None) -> Answer | None:
    """The effect of the faults at this point: wait, cut the connection, or replace the answer."""
    slow, broken, status = (_at(faults, name, when) for name in ("slow", "cut", "status"))
    if slow is not None:
        await asyncio.sleep(slow.seconds)
    if broken is not None:
        raise ConnectionCut(answer)
    if status is None:
        return None
    wrong = refusal(_error(status))
    wrong.then = None if answer is None else answer.then
    return wrong


async def carry_out(call: Call, handler: Handler, faults: Mapping[str, Fault]) -> Answer:
    """The answer to a call. With an idempotency key it is carried out once; afterwards the answer is repeated."""
    key = call.idempotency_key
    if key is None or call.method != "POST":
        return await _effect(call, handler, faults)
    if len(key) > LONGEST_KEY:
        raise ApiError(400, f"Idempotency keys may be up to {LONGEST_KEY} characters long.")
    store, slot = call.world.idempotency, (call.account.name, key)
    saved = store.begin(slot, (call.path, call.owner, call.form))
    if saved is not None and saved.status is not None:
        return Answer(saved.status, saved.body, {"Idempotent-Replayed": "true"}, replayed=True)
    kept: Answer | None = None
    try:
        kept = await _effect(call, handler, faults)
    except ConnectionCut as lost:
        kept = lost.answer
        raise
    finally:
        # Refusals of the request itself are not kept, nor is a 429: the key may be used again.
        if kept is not None and (kept.status < 300 or kept.status >= 500):
            store.save(slot, status=kept.status, body=kept.body)
        else:
            store.forget(slot)
    return kept


async def _effect(call: Call, handler: Handler, faults: Mapping[str, Fault]) -> Answer:
    wrong = await disturb(faults, "during")
    if wrong is not None:
        return wrong
    try:
        answer = handler(call)
    except ApiError as error:
        answer = refusal(error)
    if answer.after:
        # Deliveries to an endpoint that refuses are retried for long; the answer does not wait for that.
        await asyncio.wait(answer.after, timeout=LONGEST_WAIT)
    return await disturb(faults, "after", answer) or answer


def _at(faults: Mapping[str, Fault], name: str, when: When) -> Fault | None:
    fault = faults.get(name)
    return fault if fault is not None and fault.when == when else None


def _error(fault: Fault) -> ApiError:
    """The fault's answer, in Stripe's words unless the fault has its own."""
    if fault.status == 429:
        error = rate_limited("endpoint-rate" if fault.code is None else None)
    else:
        message = MESSAGES.get(fault.status, "Sorry! Something went wrong on our side.")
        error = ApiError(fault.status, fault.message or message)
    error.code = fault.code or error.code
    error.param = fault.param
    error.headers |= fault.headers
    return error
