"""The rows of the book's table that need patience, one after another, to their last epoch.

They are the experiments of ``examples/book``, whose table ``make_table.py`` there makes of the
results. What was stopped continues where it was; what is finished is not done again.
"""

import argparse
import subprocess
import sys
from pathlib import Path

BOOK = Path(__file__).parents[1] / "book"

#: Script -> its networks; one by one, so that each writes its result as soon as it is there.
ROWS = {
    "09_expanded.py": ["expanded"],
    "10_expanded_wide.py": ["expanded-300", "expanded-1000"],
    "11_expanded_two_layers.py": [f"expanded-{n}-{n}" for n in (100, 300, 1000)],
    "12_dropout.py": ["dropout-300"],
    "13_vote.py": ["dropout-1000"],
}


def main() -> None:
    """Run all rows with the options that the experiments take."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", help="some of the networks")
    options, others = parser.parse_known_args()
    for script, names in ROWS.items():
        for name in names:
            if options.only is None or name in options.only:
                command = [sys.executable, str(BOOK / script), "--only", name, *others]
                status = subprocess.run(command).returncode
                if status:
                    sys.exit(status)


if __name__ == "__main__":
    main()
