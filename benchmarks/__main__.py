"""`make benchmark`: the benchmarks that make their own data, one after the other."""

import subprocess
import sys
from pathlib import Path

for name in ("training_speed", "ingest_speed", "lifecycle"):
    sys.stdout.write(f"\n{name}\n")
    sys.stdout.flush()
    subprocess.run([sys.executable, str(Path(__file__).with_name(f"{name}.py"))], check=True)
