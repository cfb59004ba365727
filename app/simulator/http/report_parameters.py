"""Checks a create call's parameters, in Stripe's order and words, and turns them into plain values."""

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any
from zoneinfo import available_timezones

from app.simulator import errors
from app.simulator.clock import utc_text
from app.simulator.errors import ApiError
from app.simulator.http.forms import Form, Value
from app.simulator.recipes import SEPARATORS
from app.simulator.reports.catalogue import REPORTING_CATEGORIES, template_for
from app.simulator.state.model import Account, ReportType

LIVE_ONLY = "This report type is only available for live data and requires a live mode key."


@cache
def timezones() -> frozenset[str]:
    """The zones that the API lists: the tz database's, and one that it dropped long ago."""
    return frozenset(available_timezones() | {"US/Pacific-New"})


def wanted_type(account: Account, form: Form) -> ReportType:
    """The report type of a create call."""
    for name in form:
        if name not in ("report_type", "parameters", "expand"):
            raise errors.unknown_parameter(name)
    identifier = form.get("report_type")
    if not identifier:
        raise errors.missing("report_type")
    return report_type_of(account, str(identifier), param="report_type")


def report_type_of(account: Account, identifier: str, *, param: str = "id") -> ReportType:
    found = account.report_types.get(identifier)
    if found is None:
        raise errors.not_found("report type", identifier, param=param)
    if found.live_only and not account.livemode:
        raise ApiError(404, LIVE_ONLY, code="resource_missing", param=param)
    return found


def parameters_of(kind: ReportType, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The same for parameters that are values, converted to what a form would contain: texts and lists of texts."""
    form: Form = {
        name: [str(item) for item in value] if isinstance(value, list | tuple) else str(value)
        for name, value in parameters.items()
    }
    return wanted_parameters(kind, {"parameters": form})


def wanted_parameters(kind: ReportType, form: Form) -> dict[str, Any]:
    """The run's parameters, typed; exactly those that were sent."""
    given = form.get("parameters", {})
    if not isinstance(given, dict):
        raise errors.invalid("parameters", "Invalid hash")
    for name in given:
        if name not in kind.required | kind.optional:
            raise errors.unknown_parameter(f"parameters[{name}]")
    for name in sorted(kind.required, reverse=True):
        if name not in given or given[name] == "":
            raise errors.missing(f"parameters[{name}]")
    parameters = {name: _checked(kind, name, value) for name, value in sorted(given.items())}
    _check_interval(kind, parameters)
    return parameters


def _checked(kind: ReportType, name: str, value: Value) -> Any:
    param = f"parameters[{name}]"
    if name == "columns":
        return _columns(kind, value)
    if name == "connected_accounts":
        return [_text(param, item) for item in _array(param, value)]
    text = _text(param, value)
    if name in ("interval_start", "interval_end"):
        return _integer(param, text)
    if name in CHECKS and not CHECKS[name](text):
        raise errors.invalid(param, f"Invalid {param}: {text!r} is not a known value")
    return text


CHECKS: dict[str, Callable[[str], bool]] = {
    "timezone": lambda text: text in timezones(),
    "currency": lambda text: re.fullmatch("[a-z]{3}", text) is not None,
    "reporting_category": lambda text: text in REPORTING_CATEGORIES,
    "decimal_separator": lambda text: text in SEPARATORS,
    "connected_account": lambda text: text.startswith("acct_"),
    "payout": lambda text: text.startswith("po_"),
    "compress_file": lambda text: text in ("true", "false"),
}


def _columns(kind: ReportType, value: Value) -> list[str]:
    param = "parameters[columns]"
    columns = [_text(param, item) for item in _array(param, value)]
    template = template_for(kind.id)
    for column in columns:
        if not template.knows(column) and column not in (kind.default_columns or ()):
            raise errors.invalid(param, f"Invalid column: {column} is not a column of {kind.id}")
    return columns


def _array(param: str, value: Value) -> list[Value]:
    if not isinstance(value, list) or not value:
        raise errors.invalid(param, "Invalid array")
    return value


def _text(param: str, value: Value) -> str:
    if not isinstance(value, str):
        raise errors.invalid(param, f"Invalid string: {value}")
    return value


def _integer(param: str, text: str) -> int:
    if not text.isascii() or not text.removeprefix("-").isdecimal() or len(text) > 12:
        raise errors.invalid(param, f"Invalid integer: {text}", code="parameter_invalid_integer")
    return int(text)


def _check_interval(kind: ReportType, parameters: dict[str, Any]) -> None:
    margin = 1 if kind.strict_bounds else 0
    earliest, latest = kind.data_available_start + margin, kind.data_available_end - margin
    start, end = parameters.get("interval_start"), parameters.get("interval_end")
    if start is not None and start < earliest:
        raise _unavailable(kind, "interval_start", f"starting at {utc_text(earliest)}", start)
    if end is not None and end > latest:
        raise _unavailable(kind, "interval_end", f"through {utc_text(latest)}", end)
    if start is not None and end is not None and start >= end:
        raise errors.invalid("parameters.interval_start", "`interval_start` must be before `interval_end`.")
    if end is not None and start is None and end < earliest:
        raise _unavailable(kind, "interval_end", f"starting at {utc_text(earliest)}", end)


def _unavailable(kind: ReportType, name: str, available: str, requested: int) -> ApiError:
    return errors.invalid(
        f"parameters.{name}",
        f"Data for the report type {kind.id} is only available {available}; "
        f"you requested `{name}` = {utc_text(requested)}.",
    )
