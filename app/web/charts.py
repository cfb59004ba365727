"""Charts as SVG: bars, for people who would rather look than read. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from statistics import median

from app.web.days import WindowLine
from app.web.words import day

MOST_BARS = 120
WIDTH, HEIGHT = 600, 80
# A bar stands out above this multiple of the usual value, or below this fraction.
OUTLIER = 3.0


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar, in the units of the picture, and its text for readers."""

    x: float
    y: float
    width: float
    height: float
    is_outlier: bool
    title: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A row of bars, oldest first; `summary` says the same in words."""

    title: str
    summary: str
    bars: list[Bar]
    first: str
    last: str


def of_windows(windows: Sequence[WindowLine]) -> list[Chart]:
    """The history of a rule's files: their rows, and the time from Stripe's data to the stored file."""
    stored = [window for window in reversed(windows) if window.stored_at is not None][-MOST_BARS:]
    if len(stored) < 2:
        return []
    rows = [(window, float(window.rows or 0), f"{window.rows or 0:,} rows") for window in stored]
    took = [
        (window, max(0.0, seconds), _span(seconds))
        for window in stored
        if window.stored_at is not None and (seconds := (window.stored_at - window.planned_at).total_seconds()) >= 0
    ]
    return [
        _chart("Rows per report", rows, "usually {} rows", lambda value: f"{value:,.0f}"),
        _chart("From due to stored", took, "usually {}", _span),
    ]


def _chart(title: str, values: Sequence[tuple[WindowLine, float, str]], usual: str, write: object) -> Chart:
    numbers = [value for _, value, _ in values]
    middle = median(numbers)
    # A single giant would hide the others: it is cut off and marked.
    top = min(max(numbers), max(middle * 4, 1.0)) or 1.0
    width = WIDTH / len(values)
    bars = []
    for place, (window, value, said) in enumerate(values):
        height = max(1.0, HEIGHT * min(value, top) / top)
        is_outlier = middle > 0 and (value > middle * OUTLIER or value < middle / OUTLIER)
        bars.append(
            Bar(place * width, HEIGHT - height, max(1.0, width - 1), height, is_outlier, f"{day(window.day)}: {said}")
        )
    outliers = sum(bar.is_outlier for bar in bars)
    assert callable(write)
    summary = usual.format(write(middle)) + (f"; {outliers} unusual" if outliers else "")
    return Chart(title, summary, bars, day(values[0][0].day), day(values[-1][0].day))


def _span(seconds: float) -> str:
    length = timedelta(seconds=round(seconds))
    if length < timedelta(minutes=2):
        return f"{length.seconds} s"
    if length < timedelta(hours=2):
        return f"{length.seconds // 60} min"
    return f"{length / timedelta(hours=1):.0f} h"
