"""`make benchmark`: the benchmarks that make their own data, one after the other.

    python -m benchmarks [--full]

--full: up to 1,000,000 deals against Splink, and to 3,000,000 for the growth. An hour or more, and
some 20 GB of disk; without it, 100,000 deals at most.
"""

import subprocess
import sys

QUICK = (
    ("training_speed",),
    ("ingest_speed",),
    ("against_splink",),
    ("label_efficiency", "--deals", "20000"),
    ("growth", "10000", "30000", "100000", "--plot", ".cache/cost-growth.svg"),
    ("daily_increment",),
    ("worst_case", "--deals", "20000"),
)
FULL = (
    ("training_speed",),
    ("ingest_speed",),
    ("against_splink",),
    ("against_splink", "--deals", "1000000"),
    ("label_efficiency",),
    ("growth",),
    ("daily_increment", "--deals", "1000000"),
    ("worst_case",),
)

for name, *arguments in FULL if "--full" in sys.argv[1:] else QUICK:
    sys.stdout.write(f"\n{' '.join([name, *arguments])}\n\n")
    sys.stdout.flush()
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *arguments], check=True)
