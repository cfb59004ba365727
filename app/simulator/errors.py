"""The errors that the simulated API answers with, in Stripe's form and words."""

from typing import Any

DOCS = "https://stripe.com/docs/error-codes/"


class ApiError(Exception):
    """A refused call: HTTP status and the fields of Stripe's `error` object."""

    def __init__(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.type = "api_error" if status >= 500 else "invalid_request_error"
        self.headers: dict[str, str] = {}

    def body(self) -> dict[str, Any]:
        error: dict[str, Any] = {"message": str(self), "type": self.type}
        if self.code:
            error |= {"code": self.code, "doc_url": DOCS + self.code.replace("_", "-")}
        if self.param:
            error["param"] = self.param
        return {"error": error}


def missing(param: str) -> ApiError:
    return ApiError(400, f"Missing required param: {param}.", code="parameter_missing", param=param)


def unknown_parameter(param: str) -> ApiError:
    return ApiError(400, f"Received unknown parameter: {param}", code="parameter_unknown", param=param)


def invalid(param: str, message: str, *, code: str | None = None) -> ApiError:
    return ApiError(400, message, code=code, param=param)


def not_found(kind: str, identifier: str, *, param: str = "id") -> ApiError:
    return ApiError(404, f"No such {kind}: '{identifier}'", code="resource_missing", param=param)


def unknown_route(method: str, path: str) -> ApiError:
    return ApiError(
        404,
        f"Unrecognized request URL ({method}: {path}). If you are trying to list objects, remove the trailing slash. "
        "If you are trying to retrieve an object, make sure you passed a valid (non-empty) identifier in your code.",
    )


def no_key() -> ApiError:
    return ApiError(
        401,
        "You did not provide an API key. You need to provide your API key in the Authorization header, "
        "using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY').",
    )


def unknown_key(secret: str) -> ApiError:
    return ApiError(401, f"Invalid API Key provided: {masked(secret)}")


def expired_key(secret: str) -> ApiError:
    return ApiError(401, f"Expired API Key provided: {masked(secret)}", code="api_key_expired")


def not_permitted(secret: str, account_id: str, permission: str) -> ApiError:
    return ApiError(
        403,
        f"The provided key '{masked(secret)}' does not have the required permissions for this endpoint on account "
        f"'{account_id}'. Having the '{permission}' permission would allow this request to continue.",
    )


def no_access(secret: str, account_id: str) -> ApiError:
    """The `Stripe-Account` of an account that is not, or no longer, connected to the key's."""
    return ApiError(
        403,
        f"The provided key '{masked(secret)}' does not have access to account '{account_id}' (or that account does not "
        "exist). Application access may have been revoked.",
        code="account_invalid",
    )


def no_context() -> ApiError:
    """The key of an organization, which belongs to no single account."""
    return ApiError(400, "Please include the Stripe-Context header to authenticate with an Organization API key.")


def rate_limited(reason: str | None) -> ApiError:
    error = ApiError(
        429,
        "Request rate limit exceeded. Learn more about rate limits here https://stripe.com/docs/rate-limits.",
        code="rate_limit",
    )
    if reason:
        error.headers["Stripe-Rate-Limited-Reason"] = reason
    return error


def key_reused(key: str) -> ApiError:
    error = ApiError(
        400,
        "Keys for idempotent requests can only be used with the same parameters they were first used with. "
        f"Try using a key other than '{key}' if you meant to execute a different request.",
    )
    error.type = "idempotency_error"
    return error


def key_in_use(key: str) -> ApiError:
    error = ApiError(
        409,
        f"There is currently another in-progress request using this Idempotent Key ({key}). Please try again later.",
        code="idempotency_key_in_use",
    )
    error.type = "idempotency_error"
    return error


def masked(secret: str) -> str:
    """A key as Stripe shows it: the prefix and the last four characters."""
    head, tail = secret[:8], secret[-4:]
    return secret if len(secret) <= 12 else f"{head}{'*' * (len(secret) - 12)}{tail}"
