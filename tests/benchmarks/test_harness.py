"""The benchmarks' own arithmetic: a table that flatters would be worse than none."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import report
from benchmarks.harness import against, alone, alternate, at_least, below, quantile
from benchmarks.machine import Machine

MACHINE = Machine("2026-11-21 12:00 UTC", "abc", 2, "Some CPU", 24.0, "Linux 6.1", "3.11.7", "18.6", 60.0, 0.1)


def test_a_rate_is_compared_with_the_limit_by_their_medians() -> None:
    row = against("x", [90.0, 50.0, 60.0], "a second", limit="y", limits=[100.0, 120.0, 500.0], aim=at_least(0.5))
    assert (row.ratio, row.met, row.figure, row.limit) == (0.5, True, "60 a second", "y: 120 a second")


def test_where_less_is_better_the_share_of_the_limit_is_inverted() -> None:
    row = against("x", [4.0], "s", limit="y", limits=[1.0], aim=at_least(0.5), less_is_better=True)
    assert (row.ratio, row.met) == (0.25, False)


def test_an_aim_may_be_about_the_figure_itself() -> None:
    row = against("x", [40.0], "ms", limit="y", limits=[1.0], aim=below(50), less_is_better=True, aim_of_figure=True)
    assert row.met
    assert alone("x", [50.0], "ms", aim=below(50)).met is False


def test_contenders_take_turns_and_each_goes_first_as_often() -> None:
    order: list[str] = []

    def contender(name: str, gives: float) -> Callable[[], float]:
        def turn() -> float:
            order.append(name)
            return gives

        return turn

    given = alternate(2, {"ours": contender("ours", 1.0), "limit": contender("limit", 2.0)})
    assert order == ["ours", "limit", "limit", "ours"]
    assert given == {"ours": [1.0, 1.0], "limit": [2.0, 2.0]}


def test_a_quantile_is_a_value_that_was_measured() -> None:
    values = [float(value) for value in range(1, 101)]
    assert (quantile(values, 0.5), quantile(values, 0.99), quantile([7.0], 0.99)) == (51.0, 100.0, 7.0)


def test_what_a_reader_asks_first_stands_above_the_table_and_a_busy_machine_beside_each_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    what = report.ASKED["a big file in"]
    busy = replace(MACHINE, load_average=2.0)
    report.keep("store_and_read", [alone(what, [200.0], "MB/s"), alone(what, [1.0], "MB/s")], busy, short=False)
    report.keep("idle", [alone("memory", [100.0], "MiB")], MACHINE, short=False)

    text = report.markdown(["store_and_read", "idle"])

    assert "| a big file in | 200 MB/s (load 2.0) |" in text
    assert text.count("load 2.0") == 3
    assert "| memory | 100 MiB |" in text


def test_the_table_is_put_between_the_marks_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    monkeypatch.setattr(report, "DOCUMENT", page)
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    report.keep("idle", [alone("memory", [100.0], "MiB", aim=below(150, "MiB"))], MACHINE, short=False)
    for _ in range(2):
        report.document(["idle", "never measured"])
        text = page.read_text()
        assert text.startswith(f"before\n{report.BEGIN}")
        assert text.endswith(f"{report.END}\nafter\n")
        assert text.count("| memory | 100 MiB |  |  | < 150 MiB | yes |") == 1
        assert "old" not in text


def test_every_benchmark_of_the_command_is_there() -> None:
    folder = Path(command.__file__).parent
    assert [name for name in command.BENCHMARKS if "def measure(" not in (folder / f"{name}.py").read_text()] == []
