"""The readers under a fuzzer that keeps the inputs which reach something: atheris, over libFuzzer.

    pip install "tinyconv[fuzz]"
    python tests/fuzz/guided.py READER [--runs 100000] [--corpus FOLDER]

Half of the inputs are changed by libFuzzer, half by the mutations that know the format. A finding,
what ``harness.py`` calls one, ends the run; libFuzzer writes its file. Folders of pictures are
left to ``harness.py``.
"""

import argparse
import os
import random
import sys
import tempfile
import warnings
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent))
with atheris.instrument_imports(include=["tinyconv"]):
    import harness
    import mutate
    import seeds


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    names = [name for name, reader in seeds.READERS.items() if reader.fill is None]
    parser.add_argument("reader", choices=names)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--corpus", type=Path, help="where inputs that reach something are kept")
    given = parser.parse_args()
    os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    warnings.simplefilter("ignore")
    reader = seeds.READERS[given.reader]
    folder = Path(tempfile.mkdtemp(dir=seeds.MEMORY_DISK))
    path, corpus = folder / reader.file, given.corpus or folder / "corpus"
    path.parent.mkdir(parents=True, exist_ok=True)
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(reader.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)

    def changed(data: bytes, most: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if rng.random() < 0.5:
            return atheris.Mutate(data, most)
        try:
            return rng.choice(reader.mutations)(rng, data)[:most]
        except Exception:  # damaged already, so that it cannot be taken apart
            return mutate.of_bytes(rng, data)[:most]

    def read(data: bytes) -> None:
        path.write_bytes(data)
        result = harness.outcome(reader, path)
        if result not in ("read", "refused"):
            raise AssertionError(f"{given.reader}: {result}")

    flags = [f"-runs={given.runs}", "-max_len=65536", "-rss_limit_mb=4096", "-timeout=30"]
    atheris.Setup([sys.argv[0], *flags, str(corpus)], read, custom_mutator=changed)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
