"""What people can do with targets and messages: test, rotate, send again, switch, delete. Structured like `actions`."""

import uuid
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError
from starlette.responses import Response

from app.api import messages, targets
from app.api.schemas.targets import RecoverIn, TargetChange, TargetOut
from app.sentences import count
from app.web.actions import Question, confirmed
from app.web.visit import Visit


async def _target(visit: Visit) -> TargetOut:
    async with visit.res.sessions.begin() as session:
        return await targets.show_target(session, visit.request.path_params["target"], Response())


async def _ask_test(visit: Visit) -> Question:
    target = await _target(visit)
    return Question(
        f"Test {target.name}",
        "A ping will be sent now, and its answer will be shown.",
        "Send a ping",
        f"/targets/{target.id}",
    )


async def _test(visit: Visit) -> Response:
    target_id = visit.request.path_params["target"]
    tried = await targets.test_target(visit.res, visit.caller, target_id)
    answered = f"answered {tried.status}" if tried.status else (tried.error or "no answer").replace("_", " ")
    said = f"The ping {'arrived' if tried.delivered else 'did not arrive'}: {answered}, {tried.milliseconds} ms."
    return visit.go(f"/targets/{target_id}", done=said)


async def _ask_rotate(visit: Visit) -> Question:
    target = await _target(visit)
    what = "It will get a new secret, which will be shown once. The current one stays valid for another 24 hours."
    return Question(f"A new secret for {target.name}", what, "Create a new secret", f"/targets/{target.id}")


async def _rotate(visit: Visit) -> Response:
    target_id = visit.request.path_params["target"]
    made = await targets.rotate_secret(visit.res, visit.caller, target_id)
    return visit.show("secret.html", secret=made.secret, target_id=target_id)


async def _ask_recover(visit: Visit) -> Question:
    target, since = await _target(visit), _since(visit.query)
    what = f"Messages that failed or were skipped since {since:%Y-%m-%d %H:%M} UTC will be sent again."
    return Question(
        f"Send again to {target.name}", what, "Send again", f"/targets/{target.id}", {"since": since.isoformat()}
    )


async def _recover(visit: Visit) -> Response:
    target_id = visit.request.path_params["target"]
    since = _since(await visit.form())
    done = await targets.recover_target(visit.res, visit.caller, target_id, RecoverIn(since=since))
    return visit.go(f"/targets/{target_id}", done=f"{count(done.recovered, 'message')} will be sent again.")


def _since(given: "dict[str, str]") -> datetime:
    try:
        return RecoverIn.model_validate({"since": given.get("since")}).since
    except ValidationError:
        return datetime.now(UTC) - timedelta(days=7)


async def _ask_switch_on(visit: Visit) -> Question:
    target = await _target(visit)
    return Question(
        f"Switch {target.name} on",
        "New messages will be sent to it. To send what it missed, use “Send failed messages again”.",
        "Switch on",
        f"/targets/{target.id}",
    )


async def _ask_switch_off(visit: Visit) -> Question:
    target = await _target(visit)
    return Question(
        f"Switch {target.name} off",
        "Nothing will be sent; messages will be recorded as skipped.",
        "Switch off",
        f"/targets/{target.id}",
    )


async def _switch_on(visit: Visit) -> Response:
    return await _change(visit, TargetChange(enabled=True), "It is on.")


async def _switch_off(visit: Visit) -> Response:
    return await _change(visit, TargetChange(enabled=False), "It is off.")


async def _change(visit: Visit, change: TargetChange, done: str) -> Response:
    target_id = visit.request.path_params["target"]
    await targets.change_target(visit.res, visit.caller, target_id, change, response=Response())
    return visit.go(f"/targets/{target_id}", done=done)


async def _ask_delete(visit: Visit) -> Question:
    target = await _target(visit)
    what = "Nothing more will be sent to it. Its deliveries can still be read."
    return Question(f"Delete {target.name}", what, "Delete the target", f"/targets/{target.id}", is_grave=True)


async def _delete(visit: Visit) -> Response:
    await targets.delete_target(visit.res, visit.caller, visit.request.path_params["target"])
    return visit.go("/targets", done="Target deleted.")


async def _ask_again(visit: Visit) -> Question:
    message = visit.request.path_params["message"]
    return Question(
        "Send this message again",
        "It will be sent with the same id, so that its receiver can recognize it.",
        "Send again",
        f"/messages/{message}",
    )


async def _again(visit: Visit) -> Response:
    message_id: uuid.UUID = visit.request.path_params["message"]
    await messages.retry_delivery(visit.res, visit.caller, message_id, visit.request.path_params["target"])
    return visit.go(f"/messages/{message_id}", done="The message will be sent again.")


ROUTES = (
    *confirmed("/targets/{target:uuid}/test", _ask_test, _test),
    *confirmed("/targets/{target:uuid}/rotate", _ask_rotate, _rotate),
    *confirmed("/targets/{target:uuid}/recover", _ask_recover, _recover),
    *confirmed("/targets/{target:uuid}/enable", _ask_switch_on, _switch_on),
    *confirmed("/targets/{target:uuid}/disable", _ask_switch_off, _switch_off),
    *confirmed("/targets/{target:uuid}/delete", _ask_delete, _delete),
    *confirmed("/deliveries/{message:uuid}/{target:uuid}/retry", _ask_again, _again),
)
