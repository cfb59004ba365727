"""`python -m benchmarks.profiled FILE serve …`: the service under cProfile, counting only its thread's CPU time.

Wall-clock time would show what waits, and how busy the machine is with other work.
"""

import cProfile
import pstats
import sys
import time
from collections import Counter
from pathlib import Path

from app.cli import main

LINES = 40
_STARTING = ("importlib", "/re/", "marshal", "__build_class__", "exec}", "dataclasses", "typing.py", "compile")


def print_hints(file: Path) -> None:
    """Where the time went: by package (without what only the start takes), and by function."""
    stats = pstats.Stats(str(file))
    shares: Counter[str] = Counter()
    for (path, _, name), (_, _, seconds, *_) in stats.stats.items():  # type: ignore[attr-defined]  # no stub for it
        if not any(word in f"{path} {name}" for word in _STARTING):
            shares[_package(path)] += seconds
    total = sum(shares.values())
    print("\n".join(f"{share / total:6.1%}  {package}" for package, share in shares.most_common(15)))
    stats.sort_stats("tottime").print_stats(LINES)


def _package(path: str) -> str:
    for mark in ("site-packages/", "/app/"):
        if mark in path:
            return path.partition(mark)[2].partition("/")[0].removesuffix(".py") if mark != "/app/" else "app"
    return "built in" if path.startswith("~") else "standard library"


if __name__ == "__main__":
    file, *sys.argv[1:] = sys.argv[1:]
    profile = cProfile.Profile(time.thread_time)
    try:
        profile.runcall(main)
    finally:
        profile.dump_stats(file)
