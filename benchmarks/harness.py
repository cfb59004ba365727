"""What a benchmark yields: rows, each a figure beside its limit and its aim; and rounds that take turns, so a noisy
minute of the machine affects the subject and the limit alike.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from benchmarks.stage import Stage

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Aim:
    """What a value should be: at least, or below."""

    value: float
    at_least: bool
    unit: str = ""

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '<'} {self.value:g}{self.unit and ' ' + self.unit}"

    def met(self, value: float) -> bool:
        return value >= self.value if self.at_least else value < self.value


def at_least(value: float, unit: str = "") -> Aim:
    """An aim for rates and shares."""
    return Aim(value, at_least=True, unit=unit)


def below(value: float, unit: str = "") -> Aim:
    """An aim for times and sizes."""
    return Aim(value, at_least=False, unit=unit)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; `ratio` is the share of the limit that is reached, whether more or less is better."""

    what: str
    figure: str
    limit: str = ""
    ratio: float | None = None
    aim: str = ""
    met: bool | None = None
    note: str = ""
    rounds: Mapping[str, list[float]] = field(default_factory=dict)


def against(
    what: str,
    ours: list[float],
    unit: str,
    *,
    limit: str,
    limits: list[float],
    aim: Aim | None = None,
    less_is_better: bool = False,
    aim_of_figure: bool = False,
    note: str = "",
) -> Row:
    """A figure beside its limit, medians of the rounds; the aim is about the ratio, unless it is about the figure."""
    mine, theirs = median(ours), median(limits)
    ratio = theirs / mine if less_is_better else mine / theirs
    return Row(
        what,
        f"{number(mine)} {unit}",
        limit=f"{limit}: {number(theirs)} {unit}",
        ratio=round(ratio, 3),
        aim="" if aim is None else str(aim),
        met=None if aim is None else aim.met(mine if aim_of_figure else ratio),
        note=note,
        rounds={"ours": ours, "limit": limits},
    )


def alone(what: str, values: list[float], unit: str, *, aim: Aim | None = None, note: str = "") -> Row:
    """A figure by itself, median of the rounds; the aim is about the figure."""
    value = median(values)
    return Row(
        what,
        f"{number(value)} {unit}".rstrip(),
        aim="" if aim is None else str(aim),
        met=None if aim is None else aim.met(value),
        note=note,
        rounds={"ours": values},
    )


def not_measured(what: str, why: str) -> Row:
    """A row for what this machine lacks."""
    return Row(what, "not measured here", note=why)


# A benchmark yields its rows as they become known.
Benchmark = Callable[["Stage"], Iterator[Row]]


def alternate(rounds: int, contenders: Mapping[str, Callable[[], T]]) -> dict[str, list[T]]:
    """Run every contender once a round, in turn; returns what each yielded, round by round."""
    given: dict[str, list[T]] = {name: [] for name in contenders}
    for turn in range(rounds):
        # Every other round runs backwards, so that each contender is first as often as last.
        order = list(contenders) if turn % 2 == 0 else list(contenders)[::-1]
        for name in order:
            given[name].append(contenders[name]())
    return given


def number(value: float) -> str:
    """Three significant digits; more only if the number is larger."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def quantile(values: list[float], share: float) -> float:
    """The value that `share` of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
