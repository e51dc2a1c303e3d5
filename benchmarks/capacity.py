"""How many steps a second a number of workers on one PostgreSQL do: a small simulation.

    uv run benchmarks/capacity.py [--flush SECONDS] [--cores CORES]

Three things take time. A worker's processor executes and encodes the steps. A core of the server
takes up the rows of a batch. The log is flushed to disk, one flush after the other, each for all
batches that wait for it then. A worker's next batch is what its steps have made meanwhile.

The times were fitted to what `_postgres.py` measured with one worker: the steps a second of 1, 100
and 1,000 runs at once. Nothing was measured for more than one worker.
"""

from __future__ import annotations

import argparse
import heapq
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Times:
    """What takes how long, in seconds.

    Attributes:
        step: What a worker's processor spends on a step.
        batch: What a batch costs the server, however large it is, and the way there and back.
        row: What a record in it costs the server.
        flush: How long it takes to have the log on disk.
        cores: How many cores the server has.
    """

    step: float = 18e-6
    batch: float = 0.3e-3
    row: float = 6e-6
    flush: float = 0.4e-3
    cores: int = 2


class Load(NamedTuple):
    """What a simulation found: steps a second, and how long one waits to be on disk."""

    rate: float
    wait: float


def simulate(workers: int, runs: int, times: Times, *, seconds: float = 20.0) -> Load:
    """Let each of some workers execute a number of runs, which wait for each step's record."""
    ready = [runs] * workers  # runs of a worker whose next step may be executed
    free_cores = [0.0] * times.cores
    flush_ends = 0.0
    done, waited = 0, 0.0
    # Each worker executes what is ready, then hands it in; (when, worker).
    turns = [(times.step * index / workers, index) for index in range(workers)]
    heapq.heapify(turns)
    while turns[0][0] < seconds:
        now, worker = heapq.heappop(turns)
        many = ready[worker]
        handed_in = now + many * times.step
        core = heapq.heappop(free_cores)
        written = max(core, handed_in) + times.batch + many * times.row
        heapq.heappush(free_cores, written)
        if written > flush_ends - times.flush:
            # It came too late for the flush under way: the next one is for it, and all till then.
            flush_ends = max(flush_ends, written) + times.flush
        if seconds / 2 < flush_ends <= seconds:  # the first half is for all to get going
            done += many
            waited += many * (flush_ends - handed_in)
        heapq.heappush(turns, (flush_ends, worker))
    return Load(done / (seconds / 2), waited / done)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--flush", type=float, default=Times.flush)
    parser.add_argument("--cores", type=int, default=Times.cores)
    given = parser.parse_args()
    times = Times(flush=given.flush, cores=given.cores)
    print(f"server of {times.cores} cores, {times.flush * 1000:g} ms a flush")
    print(f"{'workers':>8} {'runs each':>10} {'steps/s':>10} {'wait for the disk':>18}")
    for workers in (1, 3, 10, 30, 100, 300, 1_000):
        for runs in (1, 100, 1_000):
            load = simulate(workers, runs, times)
            print(f"{workers:>8,} {runs:>10,} {load.rate:>10,.0f} {load.wait * 1000:>15.1f} ms")


if __name__ == "__main__":
    main()
