"""Feeds every reader of the library with damaged files: each must be read or refused.

    python tests/fuzz/harness.py --inputs 100000 --seed 1 [--readers idx pickle ...] [--keep FOLDER]

A file is refused by one of the library's own errors. Anything else is a finding: another
exception, a crash, more than two seconds of processor time, more than 256 MiB beside what stays.
The file of a finding is kept. A child process does the reading; the parent survives it, says what
it was reading and starts another.
"""

import argparse
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import mutate
import seeds

import tinyconv.errors

#: Seconds of processor time, and bytes of memory beside what is there, that one file may take.
SECONDS, MEMORY = 2.0, 256 << 20
OURS = tuple(getattr(tinyconv.errors, name) for name in tinyconv.errors.__all__)


class TooLong(BaseException):
    """Raised by the alarm."""


def outcome(reader: seeds.Reader, path: Path) -> str:
    """Read a file; return "read", "refused" or what went wrong."""

    def ring(number: int, frame: Any) -> None:
        raise TooLong

    before = signal.signal(signal.SIGVTALRM, ring)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        reader.read(path)
        result = "read"
    except OURS:
        result = "refused"
    except TooLong:
        result = f"took over {SECONDS} s"
    except Exception as error:
        result = f"{type(error).__name__}: {str(error)[:100]}"
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most) * 1024
    if grown > MEMORY:
        result = f"took {grown >> 20} MiB"
    return result


def damage(name: str, number: int, folder: Path) -> Path:
    """Write the input of this number, which is the same in every run; return its path."""
    reader = seeds.READERS[name]
    rng = random.Random(f"{name}-{number}")
    path = folder / reader.file
    if path.is_dir():
        shutil.rmtree(path)
    data = rng.choice(reader.seeds())
    if reader.fill is not None:
        path.mkdir()
        reader.fill(rng, path, data)
        return path
    for _ in range(rng.choice((1, 1, 1, 2))):
        mutation = rng.choice(reader.mutations)
        try:
            data = mutation(rng, data)
        except Exception:  # damaged already, so that it cannot be taken apart
            data = mutate.of_bytes(rng, data)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def work(pipe: Connection, name: str) -> None:
    """In the child: read the inputs that the parent names, and send what came out."""
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.stderr = open("/dev/null", "w")  # noqa: SIM115
    with tempfile.TemporaryDirectory(dir=seeds.MEMORY_DISK) as folder:
        reader = seeds.READERS[name]
        for good in reader.seeds()[:1] if reader.fill is None else ():
            path = Path(folder) / reader.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(good)
            reader.read(path)  # what is imported first must not count; and it must be right
        pipe.send("ready")
        while True:
            first, last = pipe.recv()
            for number in range(first, last):
                pipe.send((number, None))
                pipe.send((number, outcome(reader, damage(name, number, Path(folder)))))


def run(name: str, first: int, count: int, keep: Path | None) -> Counter[str]:
    """Read ``count`` inputs in child processes."""
    found: Counter[str] = Counter()
    context = multiprocessing.get_context("spawn")
    done, last = first, first + count
    while done < last:
        here, there = context.Pipe()
        child = context.Process(target=work, args=(there, name), daemon=True)
        child.start()
        there.close()
        if here.recv() != "ready":
            raise AssertionError
        here.send((done, last))
        reading = done
        try:
            while done < last:
                reading, result = here.recv()
                if result is None:
                    continue
                done = reading + 1
                note(found, name, reading, result, keep)
        except (EOFError, ConnectionResetError):
            child.join()
            note(found, name, reading, f"crash, status {child.exitcode}", keep)
            done = reading + 1
        child.kill()
        child.join()
    return found


def note(found: Counter[str], name: str, number: int, result: str, keep: Path | None) -> None:
    """Count an outcome; keep the file of a finding."""
    found[result if result in ("read", "refused") else "findings"] += 1
    if result in ("read", "refused"):
        return
    print(f"{name} {number}: {result}", flush=True)
    if keep is not None and seeds.READERS[name].fill is None:
        with tempfile.TemporaryDirectory() as folder:
            path = damage(name, number, Path(folder))
            keep.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, keep / f"{name}-{number}{path.suffix}")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=10_000, help="for each reader")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--readers", nargs="+", choices=seeds.READERS, default=[*seeds.READERS])
    parser.add_argument("--keep", type=Path, help="folder for the files of findings")
    given = parser.parse_args()
    # The nets are small, and threads that spin would take the other processes' time.
    os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    total: Counter[str] = Counter()
    for name in given.readers:
        started = time.perf_counter()
        found = run(name, given.first, given.inputs, given.keep)
        seconds = round(time.perf_counter() - started)
        total += found
        line = {"reader": name, "inputs": given.inputs, **found, "seconds": seconds}
        print(json.dumps(line), flush=True)
    print(json.dumps({"reader": "all", "inputs": sum(total.values()), **total}), flush=True)
    sys.exit(1 if total["findings"] else 0)


if __name__ == "__main__":
    main()
