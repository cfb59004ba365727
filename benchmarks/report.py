"""The table: to the screen as it comes, and to files that the next run may be compared with."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.harness import Row
from benchmarks.machine import Machine

RESULTS = Path(__file__).parent / "results"  # ignored by git
DOCUMENT = Path(__file__).parents[1] / "docs" / "performance.md"
BEGIN, END = "<!-- figures: written by `make bench ARGS=--document` -->", "<!-- end of figures -->"

HEADINGS = ("what", "figure", "limit in the same run", "share of it", "aim", "met")
WIDTHS = (58, 22, 62, 12, 12, 4)


def line(row: Row) -> str:
    """One row for the screen."""
    return "  ".join(cell.ljust(width) for cell, width in zip(_cells(row), WIDTHS, strict=True)).rstrip()


def heading() -> str:
    """The first line for the screen."""
    return "  ".join(name.ljust(width) for name, width in zip(HEADINGS, WIDTHS, strict=True)).rstrip()


def keep(name: str, rows: Sequence[Row], machine: Machine, *, short: bool) -> None:
    """Write a benchmark's rows down as JSON, every round's figure included."""
    RESULTS.mkdir(exist_ok=True)
    kept = {"benchmark": name, "short": short, "machine": asdict(machine), "rows": [asdict(row) for row in rows]}
    (RESULTS / f"{name}.json").write_text(json.dumps(kept, indent=2) + "\n")


def markdown(names: Iterable[str]) -> str:
    """The table of these benchmarks as they were measured last."""
    lines = []
    machines, rough = [], []
    for name in names:
        file = RESULTS / f"{name}.json"
        if not file.exists():
            continue
        kept = json.loads(file.read_text())
        machines.append(Machine(**kept["machine"]))
        rough += [name] if kept["short"] else []
        rows = [Row(**row) for row in kept["rows"]]
        lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
    head = ["| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
    if not machines:
        return ""
    busiest = max(machine.load_average for machine in machines)
    about = [f"Measured on {machines[0]}; the load average before each was at most {busiest:.1f}."]
    if rough:
        about.append(f"Quick and rough (`--short`), on a machine that was busy with other work: {', '.join(rough)}.")
    return "\n".join([*about, "", *head, *lines])


def write_table(names: Iterable[str]) -> Path:
    """The whole table as a file."""
    table = RESULTS / "table.md"
    table.write_text(markdown(names) + "\n")
    return table


def document(names: Iterable[str]) -> None:
    """Put the table into docs/performance.md, in the place of the one that is there."""
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{markdown(names)}\n\n{END}{after}")


def _cells(row: Row) -> tuple[str, ...]:
    share = "" if row.ratio is None else f"{row.ratio:.2f}"
    met = {True: "yes", False: "no", None: ""}[row.met]
    figure = row.figure if not row.note else f"{row.figure} ({row.note})"
    return row.what, figure, row.limit, share, row.aim, met
