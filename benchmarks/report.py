"""``RESULTS.md``: one section for each script, which replaces its own and leaves the others."""

import os
import platform
import re
from pathlib import Path

import numba
import numpy as np

__all__ = ["machine", "table", "write"]

RESULTS = Path(__file__).with_name("RESULTS.md")


def machine() -> str:
    """Describe the machine and the libraries in one line."""
    model = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        text = information.read_text()
        found = {
            key: re.search(rf"^{key}\s*: (.*)$", text, re.MULTILINE)
            for key in ("model name", "cpu family", "flags")
        }
        name, family, flags = (match.group(1) if match else "" for match in found.values())
        widest = next((f for f in ("avx512f", "avx2", "avx") if f in flags.split()), "no AVX")
        model = f"{name}, family {family}, {widest}"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"{model}; {cores} cores; {platform.system()}; Python {platform.python_version()}, "
        f"NumPy {np.__version__}, Numba {numba.__version__}"
    )


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows)]
    return "\n".join(lines)


def write(section: str, text: str) -> None:
    """Put a section into the file, in the place of the one of that name."""
    old = RESULTS.read_text() if RESULTS.exists() else "# Results\n\nWritten by the scripts here.\n"
    parts = re.split(r"(?m)^(?=## )", old)
    new = f"## {section}\n\n{machine()}\n\n{text}\n\n"
    kept = [part for part in parts if not part.startswith(f"## {section}\n")]
    RESULTS.write_text("".join(kept).rstrip() + "\n\n" + new.rstrip() + "\n")
    print(f"{section}: written to {RESULTS}")
