"""Makes rendered pages fit narrow screens, in one place for all templates. Pure.

On a phone a row of a list is a block, not a line (page.css). Its cells then stand below one another, so each carries
the heading of its column, and roles, because elements that are not laid out as a table lose their meaning. Long
identifiers may break before each of their words, and dates nowhere.
"""

import re
from itertools import chain, repeat

# Other tables (the rows of a file) stay tables, and scroll.
_TABLE = re.compile(r'<table class="(?:list|matrix)\b.*?</table>', re.DOTALL)
_HEADING = re.compile(r"<th\b[^>]*>(.*?)</th>", re.DOTALL)
_TAG = re.compile(r"<[^>]+>")
_PART = re.compile(r"<(table|thead|tr|th)(?=[ >])")
_CELL = re.compile(r"<(t[hd])(?=[ >])")
_ROLES = {"table": "table", "thead": "rowgroup", "tr": "row", "th": "columnheader"}
_CELL_ROLES = {"th": "rowheader", "td": "cell"}
# The rows of a file, and what would show tags as text or needs none, stay unchanged.
_TEXT = re.compile(
    r'<table class="data">.*?</table>|<(title|textarea|option|pre|time)\b.*?</\1>|(?<=>)([^<]{10,})', re.DOTALL
)
_DATE = re.compile(r"(?<![\w-])(?:\d{4}-\d\d-\d\d|(?:\d\d?–)?\d\d? [A-Z][a-z]{2}(?: \d{4}|(?= –)))(?![\w-])")
_IDENTIFIER = re.compile(r"\b[a-z]\w*[._][\w.]{8,}")
_MAY_BREAK_AFTER = re.compile(r"[._](?=[a-z])")


def fitted(html: str) -> str:
    """The page with labelled cells, identifiers that may break, and dates that may not; what it says is the same."""
    return _TEXT.sub(_breakable, _TABLE.sub(_labelled, html))


def _labelled(table: re.Match[str]) -> str:
    head, _, body = table[0].partition("<tbody>")
    labels = [" ".join(_TAG.sub(" ", heading).split()) for heading in _HEADING.findall(head)]
    head = _PART.sub(lambda part: f'{part[0]} role="{_ROLES[part[1]]}"', head)
    first, *rows = f"<tbody>{body}".replace("<tbody>", '<tbody role="rowgroup">').split("<tr")
    return head + first + "".join(_row(row, labels) for row in rows)


def _row(row: str, labels: list[str]) -> str:
    # Split rather than substituted: a page may have thousands of cells.
    before, *parts = _CELL.split(row)
    cells = zip(parts[::2], parts[1::2], chain(labels, repeat("")), strict=False)
    marked = [f'<{tag} role="{_CELL_ROLES[tag]}" data-label="{label}"{rest}' for tag, rest, label in cells]
    return f'<tr role="row"{before}{"".join(marked)}'


def _breakable(text: re.Match[str]) -> str:
    if text[2] is None:
        return text[0]
    whole = _DATE.sub(r'<span class="nowrap">\g<0></span>', text[2])
    return _IDENTIFIER.sub(lambda name: _MAY_BREAK_AFTER.sub(r"\g<0><wbr>", name[0]), whole)
