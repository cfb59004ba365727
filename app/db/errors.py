"""What a database error means, by its SQLSTATE: decided only here."""

import psycopg
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeout

# Errors of these classes pass by themselves: connections, logins, missing databases, deadlocks, lack of room, locks,
# shutting down or starting, disk errors.
_PASSING_CLASSES = frozenset({"08", "28", "3D", "40", "53", "55", "57", "58"})
# A server that became a standby refuses to write (25006) or to lock (55000) for as long as it is one.
_WRONG_SERVER = frozenset({"25006", "55000"})
# The server ends transactions that are idle for long.
_IDLE_TRANSACTION = "25P03"
# A statement that takes longer than the database allows will do so again.
_QUERY_CANCELED = "57014"
# A migration changed what a prepared statement returns. The state alone says "not supported", and the text is
# translated.
_OTHER_RESULT = ("0A000", "RevalidateCachedQuery")


def is_transient(error: BaseException) -> bool:
    """Whether the database itself is in trouble, and will recover: no event or run is to blame, and nothing is counted.

    False for errors that the same row will cause again (one of its limits, a statement too slow), and for errors of
    ours.
    """
    if isinstance(error, DisconnectionError | PoolTimeout | ConnectionError):
        return True
    cause = _cause(error)
    if not isinstance(cause, psycopg.Error):
        return False
    if cause.sqlstate is None:  # raised by the driver itself: the connection is gone
        return isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError)
    if cause.sqlstate == _QUERY_CANCELED:
        return False
    if _is_outdated(cause):
        return True
    return cause.sqlstate in {*_WRONG_SERVER, _IDLE_TRANSACTION} or cause.sqlstate[:2] in _PASSING_CLASSES


def is_slow(error: BaseException) -> bool:
    """Whether the statement took longer than the database allows."""
    return getattr(_cause(error), "sqlstate", None) == _QUERY_CANCELED


def is_deadlock(error: BaseException) -> bool:
    """Whether the server ended this transaction because it and another one waited for each other."""
    return isinstance(_cause(error), psycopg.errors.DeadlockDetected)


def is_taken(error: BaseException) -> bool:
    """Whether another row has what only one may have."""
    return isinstance(_cause(error), psycopg.errors.UniqueViolation)


def is_wrong_server(error: BaseException) -> bool:
    """Whether a new connection helps: the server became a standby or read-only, or prepared statements are outdated."""
    cause = _cause(error)
    return getattr(cause, "sqlstate", None) in _WRONG_SERVER or _is_outdated(cause)


def _is_outdated(cause: BaseException | None) -> bool:
    return isinstance(cause, psycopg.Error) and (cause.sqlstate, cause.diag.source_function) == _OTHER_RESULT


def _cause(error: BaseException) -> BaseException | None:
    return error.orig if isinstance(error, DBAPIError) else error
