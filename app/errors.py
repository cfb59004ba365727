"""The errors of Tallyhook. They carry data and know nothing of HTTP: `api/problems.py` maps them to answers.

TallyhookError
├── SettingsError        a setting is missing or malformed: the process does not start
├── SchemaError          the database could not be brought to what this version needs (app/db/migrate.py)
├── StripeTrouble        told apart once, in the door (app/stripe_api/client.py)
│   ├── NotNow           may work later: cut off, 5xx, 409, 429
│   │   └── WrongPart    not the rest of the file that was asked for: fetch it whole
│   ├── KeyRefused       the key is refused (401, 403): about the account, not about the request
│   └── Refused          this request will never work as it is (400, 404)
├── RejectedDelivery     a webhook delivery that cannot be believed, or is not an event (app/inbox/delivery.py)
├── StoreAway            the object store does not do what is asked (app/files/objects.py)
├── NotFound             no such rule, run, event
├── Conflict             the state of things does not allow it
├── Gone                 it was here, and was removed
└── BadInput             what the user gave cannot work; one entry per field
"""

from dataclasses import dataclass


class TallyhookError(Exception):
    """Whatever Tallyhook itself raises on purpose."""


class SettingsError(TallyhookError):
    """A setting is missing or malformed; the message has one line per problem."""


@dataclass
class StripeTrouble(TallyhookError):
    """Stripe did not do what was asked. `message` is redacted; `request_id` is Stripe's own, for its support."""

    message: str
    request_id: str | None = None

    def __str__(self) -> str:
        return self.message


@dataclass
class NotNow(StripeTrouble):
    """May work later. `after` is in seconds, where the answer said so; `throttled` when it was a 429.

    `replayed` when Stripe gave the same answer as before, and will for as long as it keeps the idempotency key.
    """

    after: float | None = None
    throttled: bool = False
    replayed: bool = False


@dataclass
class WrongPart(NotNow):
    """The rest of a file was asked for, and something else would have come: begin it anew."""


@dataclass
class KeyRefused(StripeTrouble):
    """The key is refused for this kind of call: everything of that kind waits until it is accepted again."""

    status: int = 401


@dataclass
class Refused(StripeTrouble):
    """Stripe looked at the request itself and said no. `param` is the parameter it named, in dot form."""

    status: int = 400
    param: str | None = None
    code: str | None = None


@dataclass
class RejectedDelivery(TallyhookError):
    """The delivery cannot be believed, or is not an event: nothing is kept. `reason` is one word."""

    reason: str

    def __str__(self) -> str:
        return self.reason


class StoreAway(TallyhookError):
    """The object store does not answer, or refuses: may work later."""


class NotFound(TallyhookError):
    """There is no such thing."""


class Conflict(TallyhookError):
    """The present state does not allow what was asked."""


class Gone(TallyhookError):
    """It was here and has been removed."""


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
