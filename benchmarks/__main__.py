"""`make bench`: every figure beside its limit, measured in the same run.

python -m benchmarks                     # all of them, in a quarter of an hour on two cores
python -m benchmarks intake run_life     # these only
python -m benchmarks --short             # quick and rough
python -m benchmarks run_life --profile  # with hints where the time goes
python -m benchmarks --document          # and put the table into docs/performance.md
"""

import argparse
import logging
import sys
import time
from importlib import import_module

from app.observability.logs import configure_logs
from benchmarks import report
from benchmarks.harness import Benchmark, Row
from benchmarks.machine import this_machine
from benchmarks.stage import Stage

# In the order of the table; each is a module with a function `measure`.
BENCHMARKS = (
    "intake",
    "flood",
    "run_life",
    "latency",
    "store_and_read",
    "beside_downloads",
    "planning",
    "claiming",
    "connected",
    "rules",
    "lists",
    "pages",
    "idle",
    "accounts",
    "growth",
    "health",
    "loading",
    "loading_large",
    "beside_loading",
    "checks",
)


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="name", help=f"which of them: {', '.join(BENCHMARKS)}")
    parser.add_argument("--short", action="store_true", help="smaller and fewer: quick and rough")
    parser.add_argument("--profile", action="store_true", help="print where the time goes, where a benchmark can")
    parser.add_argument("--document", action="store_true", help="put the table into docs/performance.md")
    options = parser.parse_args()
    if unknown := set(options.names) - set(BENCHMARKS):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; there are: {', '.join(BENCHMARKS)}")
    if options.short and options.document:
        parser.error("what is quick and rough does not go into the document")
    configure_logs()
    logging.getLogger().setLevel(logging.ERROR)  # the table is the output
    names = [name for name in BENCHMARKS if name in options.names or not options.names]
    with Stage(short=options.short, profile=options.profile) as stage:
        print(report.heading())
        for name in names:
            _measure(stage, name)
    print(f"\nThe table: {report.write_table(BENCHMARKS)}")
    if options.document:
        report.document(BENCHMARKS)


def _measure(stage: Stage, name: str) -> None:
    machine = this_machine(stage.folder, stage.server.url())
    benchmark: Benchmark = import_module(f"benchmarks.{name}").measure
    rows: list[Row] = []
    began = time.monotonic()
    for row in benchmark(stage):
        rows.append(row)
        print(report.line(row), flush=True)
    if rows:
        report.keep(name, rows, machine, short=stage.short)
    print(
        f"  {name}: {time.monotonic() - began:.0f} s, load average before {machine.load_average:.1f}", file=sys.stderr
    )


if __name__ == "__main__":
    main()
