"""The table: to the screen as it grows, and to files that the next run may be compared with."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from benchmarks.harness import Row
from benchmarks.machine import Machine

RESULTS = Path(__file__).parent / "results"  # ignored by git
DOCUMENT = Path(__file__).parents[1] / "docs" / "performance.md"
BEGIN, END = "<!-- figures: written by `make bench ARGS=--document` -->", "<!-- end of figures -->"

# What a reader asks first, and the row that answers it: its `what`, the first with that name.
ASKED = {
    "events verified, kept and answered a second": "intake, 16 connections",
    "how long a sender waits for the answer, p99": "intake, 16 connections: p99",
    "what an event takes of a core": "intake, 16 connections: processor time of an event, our process alone",
    "runs from plan to stored file": "whole life of a run, small file",
    "what a run takes of a core": "whole life of a run, small file: processor time of our process",
    "from Stripe's success event to the file, p50": "success event in → file visible through the API: p50",
    "a big file in": "store a file of 1 GiB",
    "a big file out": "read a file of 1 GiB back through the API",
    "memory, when nothing happens": "idle: resident memory of serve, worker included",
    "queries a minute, when nothing happens": "idle: queries a minute, begin and commit included",
}
# From this load average on, other work shows in the figures.
BUSY = 0.5

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
    """The table of these benchmarks as last measured."""
    lines = []
    machines, rough = [], []
    short_answers: dict[str, str] = {}
    for name in names:
        file = RESULTS / f"{name}.json"
        if not file.exists():
            continue
        kept = json.loads(file.read_text())
        machines.append(Machine(**kept["machine"]))
        rough += [name] if kept["short"] else []
        rows = [_with_load(Row(**row), machines[-1].load_average) for row in kept["rows"]]
        lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
        for row in rows:
            short_answers.setdefault(row.what, _cells(row)[1])
    head = ["| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
    if not machines:
        return ""
    busiest = max(machine.load_average for machine in machines)
    about = [f"Measured on {machines[0]}; the load average before each was at most {busiest:.1f}."]
    if rough:
        about.append(f"Quick and rough (`--short`), on a machine that was busy with other work: {', '.join(rough)}.")
    asked = [f"| {question} | {short_answers[what]} |" for question, what in ASKED.items() if what in short_answers]
    first = ["| in short | |", "|---|---|", *asked, ""] if asked else []
    return "\n".join([*about, "", *first, *head, *lines])


def _with_load(row: Row, load: float) -> Row:
    said = f"load {load:.1f}" if load >= BUSY else ""
    return replace(row, note=", ".join(filter(None, (row.note, said))))


def write_table(names: Iterable[str]) -> Path:
    """The whole table as a file."""
    table = RESULTS / "table.md"
    table.write_text(markdown(names) + "\n")
    return table


def document(names: Iterable[str]) -> None:
    """Put the table into docs/performance.md, in place of the existing one."""
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{markdown(names)}\n\n{END}{after}")


def _cells(row: Row) -> tuple[str, ...]:
    share = "" if row.ratio is None else f"{row.ratio:.2f}"
    met = {True: "yes", False: "no", None: ""}[row.met]
    figure = row.figure if not row.note else f"{row.figure} ({row.note})"
    return row.what, figure, row.limit, share, row.aim, met
