"""Charts as SVG: bars, for people who would rather look than read. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import accumulate, pairwise
from statistics import median

from app.health.text import span
from app.sentences import count
from app.web.days import StoredDay, WindowLine
from app.web.words import day, number, size

LEAST_BARS, MOST_BARS = 8, 120  # with fewer than the least, bars are not wider
WIDTH, HEIGHT = 600, 56
# A bar stands out above this multiple of the usual value, or below this fraction.
OUTLIER = 3.0
OUTLIERS_NAMED = 3
HEADROOM = 1.15


@dataclass(frozen=True, slots=True)
class Value:
    """What one bar shows, and what can be looked at behind it."""

    day: date
    value: float
    path: str | None = None


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar, in the units of the picture, and its text for readers."""

    x: float
    y: float
    width: float
    height: float
    is_outlier: bool
    title: str
    path: str | None


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars, oldest first, with gaps for days without a value; `summary` and `outliers` (the newest) say it in words."""

    title: str
    summary: str
    bars: list[Bar]
    usual_y: float  # where the line of the usual value lies
    highest: str  # what the y axis reaches from 0, and what is above it is cut off
    outliers: list[Bar]
    more_outliers: int
    first: str
    last: str


@dataclass(frozen=True, slots=True)
class Measure:
    """What a chart shows, how its values are written, and which deviation is not worth mentioning."""

    title: str
    write: Callable[[float], str]
    tolerance: float


@dataclass(frozen=True, slots=True)
class Scale:
    """The width of a bar with the gap after it, the usual value, and the value that is as high as the picture."""

    width: float
    usual: float
    top: float


ROWS = Measure("Rows in each report", lambda value: count(round(value), "row"), 10)
SIZE = Measure("Size of each file", lambda value: size(round(value)), 1000)
TOOK = Measure("Time from data to stored file", lambda value: span(timedelta(seconds=round(value))), 600)
PER_DAY = Measure("Reports stored each day", lambda value: number(round(value)), 10)


def of_windows(windows: Sequence[WindowLine]) -> list[Chart]:
    """The history of a rule's files: their rows and sizes, and the time from Stripe's data to the stored file."""
    stored = [window for window in reversed(windows) if window.stored_at is not None]
    if len(stored) < 2:
        return []
    paths = [f"/runs/{window.run_id}" for window in stored]
    lines = list(zip(stored, paths, strict=True))
    return [
        chart(ROWS, [Value(one.day, float(one.rows or 0), path) for one, path in lines]),
        chart(SIZE, [Value(one.day, float(one.size or 0), path) for one, path in lines]),
        chart(TOOK, [Value(one.day, _took(one), path) for one, path in lines]),
    ]


def of_days(stored: Sequence[StoredDay]) -> list[Chart]:
    """The last days, over all rules: how many reports were stored, and how long they usually took."""
    if len(stored) < 2:
        return []
    return [
        chart(PER_DAY, [Value(one.day, float(one.reports)) for one in stored]),
        chart(TOOK, [Value(one.day, one.seconds) for one in stored]),
    ]


def chart(measure: Measure, values: Sequence[Value]) -> Chart:
    """The picture of these values, oldest first: of those within MOST_BARS places of the newest."""
    places = _places([one.day for one in values])
    values = [one for place, one in zip(places, values, strict=True) if place > places[-1] - MOST_BARS]
    places = [place - places[-len(values)] for place in places[-len(values) :]]
    middle = median(one.value for one in values)
    # A single giant would hide the others: it is cut off and marked.
    highest = min(max(one.value for one in values), max(middle * 4, 1.0)) or 1.0
    top = HEADROOM * highest
    scale = Scale(WIDTH / max(places[-1] + 1, LEAST_BARS), middle, top)
    bars = [_bar(measure, one, place, scale) for place, one in zip(places, values, strict=True)]
    outliers = [bar for bar in reversed(bars) if bar.is_outlier]
    return Chart(
        measure.title,
        f"usually {measure.write(middle)}",
        bars,
        HEIGHT - HEIGHT * min(middle, top) / top,
        measure.write(highest),
        outliers[:OUTLIERS_NAMED],
        max(0, len(outliers) - OUTLIERS_NAMED),
        day(values[0].day),
        day(values[-1].day),
    )


def _places(ordered: Sequence[date]) -> list[int]:
    """Where each bar stands: a day (week, month) without a value leaves a gap as wide as its bar."""
    steps = [(later - earlier).days for earlier, later in pairwise(ordered)]
    unit = min((step for step in steps if step > 0), default=1)
    return list(accumulate((max(1, round(step / unit)) for step in steps), initial=0))


def _bar(measure: Measure, one: Value, place: int, scale: Scale) -> Bar:
    height = max(1.0, HEIGHT * min(one.value, scale.top) / scale.top)
    is_far = one.value > scale.usual * OUTLIER or one.value < scale.usual / OUTLIER
    is_outlier = is_far and abs(one.value - scale.usual) > measure.tolerance
    title = f"{day(one.day)}: {measure.write(one.value)}"
    return Bar(place * scale.width, HEIGHT - height, max(1.0, scale.width - 1.5), height, is_outlier, title, one.path)


def _took(window: WindowLine) -> float:
    assert window.stored_at is not None
    return max(0.0, (window.stored_at - window.planned_at).total_seconds())
