"""What is allowed in a rule, but probably a mistake."""

from difflib import get_close_matches

from app.planning.report_types import takes_timezone
from app.rules.rule import NewRule, RuleWarning, connected_of, known_zones, today_in, zone_for
from app.tables.catalogue import catalogue, find_column


def warnings_about(new: NewRule) -> list[RuleWarning]:
    """What the rule itself makes suspicious; whether its type exists is another question."""
    found = []
    if new.starts_on > today_in(new.timezone):
        found.append(RuleWarning("/starts_on", f"is in the future: nothing is requested before {new.starts_on}"))
    printed = new.parameters.get("timezone")
    if takes_timezone(new.report_type) and printed is None and new.timezone not in ("UTC", "Etc/UTC"):
        detail = f"the times in the file will be in UTC; add the parameter to have them in {new.timezone}"
        found.append(RuleWarning("/parameters/timezone", detail))
    if printed is not None and printed not in known_zones():
        detail = f"{printed!r} is not an IANA time zone, and Stripe will refuse it; {zone_for(printed)}"
        found.append(RuleWarning("/parameters/timezone", detail))
    if connected_of(new) == "together":
        found += _together_warnings(new)
    found += _column_warnings(new)
    currency = new.parameters.get("currency")
    if currency is not None and not _is_currency(currency):
        lower = currency.strip().lower()
        instead = f"write {lower!r}" if _is_currency(lower) else "write it like 'usd'"
        detail = f"{currency!r} is not a currency code as Stripe writes it, three lower-case letters: {instead}"
        found.append(RuleWarning("/parameters/currency", detail))
    return found


def _together_warnings(new: NewRule) -> list[RuleWarning]:
    """Only a column of that name says which account a line of an itemized type belongs to; summaries have none."""
    columns = new.parameters.get("columns")
    if ".itemized" not in new.report_type or (isinstance(columns, list) and "connected_account" in columns):
        return []
    detail = "include `connected_account`: without it, one account's lines cannot be picked from the file"
    return [RuleWarning("/parameters/columns", detail)]


def _is_currency(text: str) -> bool:
    return len(text) == 3 and text.isascii() and text.isalpha() and text.islower()


def _column_warnings(new: NewRule) -> list[RuleWarning]:
    columns = new.parameters.get("columns")
    wrong = [one for one in columns if find_column(one) is None] if isinstance(columns, list) else []
    return [RuleWarning("/parameters/columns", _not_known(one)) for one in wrong]


def _not_known(column: str) -> str:
    near = get_close_matches(column, catalogue().columns, n=1)
    meant = f"did you mean {near[0]!r}?" if near else "Stripe refuses names that the report does not have"
    return f"{column!r} is not a column of any known report: {meant}"
