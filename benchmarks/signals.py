"""Signals side by side: ours, DuckDB, Polars and pandas for one moment and for twelve, beside a bare scan.

    python -m benchmarks.signals                 # 20 million events, five runs, everything
    python -m benchmarks.signals --events 2000000 --runs 5 --only duckdb-sorted ours bare-scan

Every run of a contender is a fresh process that loads what it needs, and times
its own work; its private memory (USS) is sampled from outside. Runs go round-robin, so that a busy moment of the
machine falls on all. What counts is the ratio to ours and to the bare scan, run by run. A contender's ``prepare``
(our ingest, DuckDB's sorted table) runs once and is told apart.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psutil

from benchmarks import generate, ours, peers
from benchmarks.peers import Answer

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "signals.json"
ONE = (generate.MOMENT,)
TWELVE = tuple(generate.MOMENT - timedelta(days=7 * back) for back in range(12))

Work = Callable[[Path, Sequence[datetime]], list[Answer]]


@dataclass(frozen=True)
class Contender:
    """``work`` answers the moments from a file; ``prepare`` makes that file of the raw one, with this suffix."""

    work: Work
    prepare: Callable[[Path, Path], None] | None = None
    suffix: str = ".parquet"

    def input(self, raw: Path) -> Path:
        return raw.with_suffix(self.suffix)


def _each(one: Callable[[Path, datetime], Answer]) -> Work:
    return lambda path, moments: [one(path, moment) for moment in moments]


def _best(one: Callable[[Path, datetime], Answer], many: Callable[[Path, Sequence[datetime]], list[Answer]]) -> Work:
    """The one-moment query for one moment, the query for many (which prepares something shared) for more."""
    return lambda path, moments: [one(path, moments[0])] if len(moments) == 1 else many(path, moments)


CONTENDERS: dict[str, Contender] = {
    "bare-scan": Contender(lambda path, moments: [peers.bare_scan(path)]),
    "ours": Contender(
        lambda path, moments: ours.signals(path, moments, peers.COLUMNS), prepare=ours.prepare, suffix=".store"
    ),
    "duckdb": Contender(_best(peers.duckdb_signals, peers.duckdb_many)),
    "duckdb-sorted": Contender(
        _best(peers.duckdb_signals, peers.duckdb_many), prepare=peers.duckdb_prepare, suffix=".duckdb"
    ),
    "duckdb-sorted-each": Contender(_each(peers.duckdb_signals), prepare=peers.duckdb_prepare, suffix=".duckdb"),
    "polars": Contender(_best(peers.polars_signals, peers.polars_many)),
    "pandas": Contender(_best(peers.pandas_signals, peers.pandas_many)),
}


@dataclass
class Run:
    seconds: float
    private_mb: float
    rows: int
    checksum: float


@dataclass
class Measured:
    contender: str
    moments: int
    runs: list[Run] = field(default_factory=list)

    @property
    def seconds(self) -> list[float]:
        return [run.seconds for run in self.runs]


# ------------------------------------------------------------------------------------- inside the fresh process


def work(name: str, raw: Path, moments: int) -> None:
    """Time one contender's work here, and print it as a line of JSON."""
    contender = CONTENDERS[name]
    chosen = ONE if moments == 1 else TWELVE
    begin = time.perf_counter()
    answers = contender.work(contender.input(raw), chosen)
    seconds = time.perf_counter() - begin
    print(json.dumps({"seconds": seconds, "rows": sum(a.rows for a in answers), "checksum": answers[0].checksum}))


def prepare(name: str, raw: Path) -> None:
    contender = CONTENDERS[name]
    if contender.prepare is None:
        raise SystemExit(f"{name} needs no preparing")
    begin = time.perf_counter()
    contender.prepare(raw, contender.input(raw))
    print(json.dumps({"seconds": time.perf_counter() - begin, "rows": 0, "checksum": 0.0}))


# --------------------------------------------------------------------------------------- from outside, by name


def fresh(*arguments: str) -> Run:
    """Run this module anew with the arguments; its last line is its answer, its peak USS is sampled meanwhile."""
    command = [sys.executable, "-m", "benchmarks.signals", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        peak = _peak_private_bytes(process)
        output = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise RuntimeError(f"{' '.join(arguments)} ended with {process.returncode}")
    return Run(private_mb=peak / 2**20, **json.loads(output.strip().splitlines()[-1]))


def _peak_private_bytes(process: subprocess.Popen[str]) -> int:
    """Of the process and its children, every 100 ms."""
    peak, watched = 0, psutil.Process(process.pid)
    while process.poll() is None:
        peak = max(peak, _private_bytes(watched))
        time.sleep(0.1)
    return peak


def _private_bytes(watched: psutil.Process) -> int:
    total = 0
    try:
        for one in (watched, *watched.children(recursive=True)):
            total += one.memory_full_info().uss
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        pass
    return total


def measure(raw: Path, names: Sequence[str], counts: Sequence[int], runs: int) -> list[Measured]:
    """Round-robin: one run of everything, then the next."""
    plan = [(name, count) for name in names for count in counts if name != "bare-scan" or count == 1]
    found = {step: Measured(*step) for step in plan}
    for number in range(runs):
        for name, count in plan:
            run = fresh("--work", name, "--raw", str(raw), "--moments", str(count))
            found[name, count].runs.append(run)
            print(f"run {number + 1}: {name:20} x{count:<3} {run.seconds:8.2f} s {run.private_mb:8.0f} MB", flush=True)
    return list(found.values())


# ------------------------------------------------------------------------------------------------- the report


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def ratios(measured: Measured, base: Measured | None) -> dict[str, float] | None:
    """How many times the base's seconds, run by run."""
    if base is None:
        return None
    pairs = zip(measured.seconds, base.seconds, strict=True)
    return spread([mine / its for mine, its in pairs])


def report(measured: list[Measured], prepared: dict[str, float], facts: dict[str, Any]) -> dict[str, Any]:
    by_key = {(one.contender, one.moments): one for one in measured}
    rows = [
        {
            "contender": one.contender,
            "moments": one.moments,
            "seconds": spread(one.seconds),
            "to_ours": ratios(one, by_key.get(("ours", one.moments))),
            "to_bare_scan": ratios(one, by_key.get(("bare-scan", 1))),
            "private_mb": max(run.private_mb for run in one.runs),
            "prepare_seconds": prepared.get(one.contender),
            "runs": [asdict(run) for run in one.runs],
        }
        for one in measured
    ]
    return {"facts": facts, "columns": list(peers.COLUMNS), "rows": rows}


def show(found: dict[str, Any]) -> None:
    def span(values: dict[str, float] | None, digits: int) -> str:
        return "-" if values is None else "{median:.{d}f} ({least:.{d}f}-{most:.{d}f})".format(d=digits, **values)

    print(f"\n{found['facts']}\n{len(found['columns'])} columns; median (least-most)\n")
    print(
        f"{'contender':20} {'moments':>7} {'seconds':>24} {'x ours':>20} {'x bare scan':>20} {'MB':>7} {'prepare':>8}"
    )
    for row in found["rows"]:
        ready = f"{row['prepare_seconds']:.1f}" if row["prepare_seconds"] else "-"
        print(
            f"{row['contender']:20} {row['moments']:>7} {span(row['seconds'], 2):>24} {span(row['to_ours'], 2):>20}"
            f" {span(row['to_bare_scan'], 2):>20} {row['private_mb']:>7.0f} {ready:>8}"
        )


def disagreeing(measured: list[Measured]) -> list[str]:
    """Contenders whose row count or checksum differs from the first one's, for the same moments."""
    wrong = []
    for count in {one.moments for one in measured}:
        same = [one for one in measured if one.moments == count and one.contender != "bare-scan"]
        for one in same:
            for mine, first in zip(one.runs, same[0].runs, strict=True):
                close = abs(mine.checksum - first.checksum) <= 1e-4 * abs(first.checksum)
                if mine.rows != first.rows or not close:
                    wrong.append(f"{one.contender} for {count}: {mine.rows} rows, {mine.checksum}")
    return wrong


def compare(raw: Path, args: argparse.Namespace) -> None:
    """Prepare, measure, show, write, and fail if the contenders did not find the same."""
    prepared = prepare_all(raw, args.only)
    measured = measure(raw, args.only, args.moments, args.runs)
    facts = {"events": args.events, "runs": args.runs, "cpus": os.cpu_count(), "load": os.getloadavg()[0]}
    found = report(measured, prepared, facts)
    show(found)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    if wrong := disagreeing(measured):
        raise SystemExit("contenders disagree:\n" + "\n".join(wrong))


def prepare_all(raw: Path, names: Sequence[str]) -> dict[str, float]:
    """Seconds of each contender's preparing; two that read one input share it."""
    seconds: dict[str, float] = {}
    for name in names:
        contender = CONTENDERS[name]
        if contender.prepare is not None and contender.suffix not in seconds:
            seconds[contender.suffix] = fresh("--prepare", name, "--raw", str(raw)).seconds
    return {name: seconds[CONTENDERS[name].suffix] for name in names if CONTENDERS[name].prepare is not None}


def main() -> None:
    args = _arguments()
    raw = args.raw or ROOT / "build" / f"shop-{args.events}.parquet"
    if args.work:
        work(args.work, raw, args.moments[0])
    elif args.prepare:
        prepare(args.prepare, raw)
    else:
        if not raw.exists():
            generate.generate(raw, args.events)
        compare(raw, args)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--moments", type=int, nargs="+", default=[1, 12], choices=[1, 12])
    parser.add_argument("--only", nargs="+", default=list(CONTENDERS), choices=list(CONTENDERS))
    parser.add_argument("--raw", type=Path, help="a file of benchmarks.generate; made under build/ when absent")
    parser.add_argument("--work", choices=list(CONTENDERS), help=argparse.SUPPRESS)
    parser.add_argument("--prepare", choices=list(CONTENDERS), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
