"""The HTTP side of the API: reads a call, has it carried out, answers with Stripe's headers, and keeps the journal."""

from email.utils import formatdate

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from app.simulator.errors import ApiError, no_access
from app.simulator.faults import CALL_FAULTS, Subject
from app.simulator.http.authentication import authenticate, secret_of
from app.simulator.http.calls import Answer, Call, Handler, refusal
from app.simulator.http.carry_out import ConnectionCut, carry_out, disturb
from app.simulator.http.connection import cut
from app.simulator.http.file_stream import encoded, send_file
from app.simulator.http.forms import Form, MalformedForm, decode
from app.simulator.ids import new_id
from app.simulator.state.model import Account, Permission
from app.simulator.state.world import CallRecord, World

NOT_A_FORM = (
    "Invalid request (check that your POST content type is application/x-www-form-urlencoded). "
    "If you have any questions, we can help at https://support.stripe.com/."
)


class ApiRoute:
    """One route of the API as an ASGI application."""

    def __init__(self, world: World, handler: Handler, permission: Permission | None) -> None:
        self._world = world
        self._handler = handler
        self._permission = permission
        self.name = handler.__name__

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body = await request.body()
        answer, status = Answer(), 0
        try:
            answer = await self._answer(request, body)
            status = await self._send(request, answer, send)
        except ConnectionCut as lost:
            answer = lost.answer or answer
            await cut(scope, receive)
        finally:
            self._note(request, status, replayed=answer.replayed)
            if answer.then is not None:
                answer.then()

    async def _answer(self, request: Request, body: bytes) -> Answer:
        try:
            form, problem = _form_of(request, body), None
        except ApiError as error:
            form, problem = {}, error
        secret = secret_of(request.headers)
        faults = self._world.faults.strike(CALL_FAULTS, self._subject(request, secret, form))
        wrong = await disturb(faults, "before")
        if wrong is not None:
            return wrong
        try:
            context = request.headers.get("stripe-context", "")
            key = authenticate(self._world, secret, context, permission=self._permission, route=self.name)
            if problem is not None:
                raise problem
            call = Call(
                world=self._world,
                method=request.method,
                path=request.url.path,
                form=form,
                headers=request.headers,
                names=request.path_params,
                account=key.account,
                key=key,
            )
            if call.owner in key.account.left:
                raise no_access(secret, str(call.owner))
            return await carry_out(call, self._handler, faults)
        except ApiError as error:
            return refusal(error)

    async def _send(self, request: Request, answer: Answer, send: Send) -> int:
        """The status that was sent; 0 if the connection broke."""
        headers = self._headers(request) | answer.headers
        if answer.file is not None:
            return await send_file(request.scope, request.receive, send, body=answer.file, headers=headers)
        headers |= {"Content-Type": "application/json", "Content-Length": str(len(answer.body))}
        await send({"type": "http.response.start", "status": answer.status, "headers": encoded(headers)})
        await send({"type": "http.response.body", "body": answer.body})
        return answer.status

    def _headers(self, request: Request) -> dict[str, str]:
        headers = {
            "Server": "nginx",
            "Date": formatdate(usegmt=True),
            "Request-Id": new_id("req"),
            "Stripe-Version": request.headers.get("stripe-version", self._world.settings.api_version),
        }
        key = request.headers.get("idempotency-key")
        return headers | {"Idempotency-Key": key} if key else headers

    def _subject(self, request: Request, secret: str, form: Form) -> Subject:
        """The values that faults match; nothing is looked up while there are no faults."""
        if not self._world.faults.rules:
            return Subject()
        key = self._world.keys.get(secret)
        kind = form.get("report_type")
        if key is not None and kind is None and "id" in request.path_params:
            kind = _report_type_behind(key.account, request.path_params["id"])
        return Subject(
            method=request.method,
            path=request.url.path,
            key=secret,
            account="" if key is None else key.account.name,
            report_type=kind if isinstance(kind, str) else "",
        )

    def _note(self, request: Request, status: int, *, replayed: bool) -> None:
        key = self._world.keys.get(secret_of(request.headers))
        self._world.journal.note(
            CallRecord(
                at=self._world.clock.now(),
                method=request.method,
                path=request.url.path,
                route=self.name,
                account=None if key is None else key.account.name,
                idempotency_key=request.headers.get("idempotency-key"),
                status=status,
                replayed=replayed,
            )
        )


def _report_type_behind(account: Account, identifier: str) -> str:
    run = account.runs.get(identifier)
    file = account.files.get(identifier)
    if run is not None:
        return run.report_type
    return identifier if file is None else file.recipe.report_type


def _form_of(request: Request, body: bytes) -> Form:
    text = request.url.query
    if request.method == "POST":
        kind = request.headers.get("content-type", "").partition(";")[0]
        if body and kind not in ("", "application/x-www-form-urlencoded"):
            raise ApiError(400, NOT_A_FORM)
        text = body.decode("utf-8", "replace")
    try:
        return decode(text)
    except MalformedForm as error:
        raise ApiError(400, str(error)) from error
