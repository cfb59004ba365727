"""The errors of Tallyhook. They carry data and know nothing about HTTP: `api/http/problems.py` maps them to answers.

TallyhookError
├── SettingsError        a setting is missing or malformed: the process does not start
├── SchemaError          the database cannot be brought to what this version needs (app/db/migrate.py)
├── EmbeddedPostgresError  the embedded PostgreSQL cannot be used (app/db/embedded)
├── CannotListen         the web server's address is taken, or not ours (app/serving.py)
├── RuleFileError        a file of rules and targets cannot be applied as it stands (app/api/as_code/file.py)
├── StripeCallError      classified once, in the client (app/stripe_api/answers.py)
│   ├── NotNow           may work later: cut off, 5xx, 409, 429
│   │   └── WrongPart    not the rest of the file that was requested: fetch it whole
│   ├── KeyRefused       the key is refused (401, 403): about the account, not about the request
│   └── Refused          this request will never work as it is (400, 404)
├── RejectedDelivery     a webhook delivery that is not authentic, or is not an event (app/inbox/delivery.py)
├── Unavailable          an event could not be committed: Stripe delivers it again (app/inbox/intake.py)
├── StoreAway            the object store does not answer, or refuses (app/files/backends.py)
├── ForeignSchema        the schema for reading report rows is somebody else's (app/db/report_schemas.py)
├── Unloadable           a file does not have the strict shape of a report (app/tables/reading.py)
├── FileIsGone           the bytes of a stored file are gone, or damaged (app/files)
├── LoadOvertaken        somebody else has the load, or it moved on: nothing was written
├── ChildEnded           the process that loads files is gone: what it was doing is rolled back
│   └── ChildSilent      it did not answer, and was ended
├── AddressRefused       a target's address lies inside a network that is closed to messages (app/targets/guard.py)
├── NotFound             no such rule, run, event
├── Forbidden            the caller's token does not allow this
├── Conflict             the state of things does not allow it
├── Gone                 it existed, and was removed
├── NotAcceptable        a file is not available in the requested format (app/spreadsheets)
└── BadInput             what the user gave cannot work; one entry per field

The exceptions at the end are control flow only: the caller catches them, and no user sees one.
"""

from dataclasses import dataclass
from datetime import datetime


class TallyhookError(Exception):
    """The base of everything that Tallyhook raises on purpose."""


class SettingsError(TallyhookError):
    """A setting is missing or malformed; the message has one line per problem."""


class SchemaError(TallyhookError):
    """The database cannot be brought to what this version needs; nothing has changed."""


class EmbeddedPostgresError(TallyhookError):
    """The embedded PostgreSQL cannot be used; the message says why and what to do."""


class CannotListen(TallyhookError):
    """The address is taken, or not ours."""


class RuleFileError(TallyhookError):
    """The file of rules cannot be applied as it is; the message has one line per problem."""


@dataclass
class StripeCallError(TallyhookError):
    """Stripe did not do what was asked. `message` is redacted; `request_id` is Stripe's own, for its support."""

    message: str
    request_id: str | None = None

    def __str__(self) -> str:
        return self.message


@dataclass
class NotNow(StripeCallError):
    """May work later. `after` is in seconds, where the answer said so.

    `replayed` when Stripe gave the same answer as before, and will for as long as it keeps the idempotency key.
    """

    after: float | None = None
    replayed: bool = False


@dataclass
class WrongPart(NotNow):
    """The rest of a file was requested, and Stripe would send something else: start over."""


@dataclass
class KeyRefused(StripeCallError):
    """The key is refused for this kind of call: everything of that kind waits until it is accepted again."""

    status: int = 401


@dataclass
class Refused(StripeCallError):
    """Stripe refused the request itself. `param` is the parameter it named, in dot form."""

    status: int = 400
    param: str | None = None
    code: str | None = None


@dataclass
class RejectedDelivery(TallyhookError):
    """The delivery is not authentic, or is not an event: nothing is kept. `reason` is one word."""

    reason: str

    def __str__(self) -> str:
        return self.reason


class Unavailable(TallyhookError):
    """The event could not be committed: Stripe should deliver it again."""


class AddressRefused(TallyhookError):
    """A target's address is one that messages must not be sent to."""


class StoreAway(TallyhookError):
    """The object store does not answer, or refuses: may work later."""


class ForeignSchema(TallyhookError):
    """There is a schema of that name, and it is not ours."""


class Unloadable(TallyhookError):
    """The file does not have the strict shape. `row` counts data rows from 1; None: it is about the file.

    No message repeats a value: it may be somebody's name.
    """

    def __init__(
        self, message: str, *, row: int | None = None, column: str | None = None, expected: str | None = None
    ) -> None:
        super().__init__(message)
        self.message, self.row, self.column, self.expected = message, row, column, expected


class FileIsGone(TallyhookError):
    """The bytes are gone, damaged, or were never there."""


class LoadOvertaken(TallyhookError):
    """Somebody else has the load now, or it moved on: nothing was written."""


class ChildEnded(TallyhookError):
    """The process that loads files was killed, or ran out of memory. What it was doing is rolled back."""


class ChildSilent(ChildEnded):
    """The process that loads files did not answer, and was ended: it, or its way to the database, hung."""


class CannotOpen(TallyhookError):
    """What a row keeps sealed cannot be opened; the text says what to do. No endpoint shows it."""


class NotFound(TallyhookError):
    """There is no rule, run, event, … with this id or name."""


class Forbidden(TallyhookError):
    """The caller's token does not allow this."""


class Conflict(TallyhookError):
    """The current state does not allow what was requested. `rules`: the names of two that exclude each other."""

    def __init__(self, message: str, *, rules: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.rules = rules


class Gone(TallyhookError):
    """It existed, and has been removed."""


class NotAcceptable(TallyhookError):
    """The file is not available in this format; the message names one that is."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One field that cannot work; `pointer` is a JSON pointer into the body, or the parameter's name."""

    pointer: str
    detail: str


class BadInput(TallyhookError):
    """What the user gave cannot work."""

    def __init__(self, *errors: FieldError) -> None:
        super().__init__("; ".join(f"{error.pointer}: {error.detail}" for error in errors))
        self.errors = errors


class WatermarkBehind(Exception):
    """This account's watermark is behind, at `known_until`: nothing may be created for it now."""

    def __init__(self, known_until: datetime, *, other_timeline: bool = False) -> None:
        super().__init__(f"Stripe may have runs since {known_until} that are unknown to Tallyhook")
        self.known_until, self.other_timeline = known_until, other_timeline


class AccountBusy(Exception):
    """Another process has the account, or its rate limit, right now: look again soon."""


class PreconditionFailed(Exception):
    """`If-Match` does not name the current version."""


class Unsatisfiable(Exception):
    """The range lies outside the file."""


class BadParameter(ValueError):
    """One of the parameters cannot work; `name` continues the pointer."""

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(detail)
        self.name = name


class BodyTooLarge(Exception):
    """The body is larger than the limit; no more than the limit was held in memory."""


class Missing(Exception):
    """There is no such object in the store."""


class Overtaken(Exception):
    """Another process has the row now, or its state changed: drop everything, write nothing."""


class Mismatch(Exception):
    """The download ended with a size other than `result.size`, or was not a file."""


class Malformed(ValueError):
    """An object lacks a field that we need, or has it in a form that Stripe never uses."""
