"""Start the server: `python -m tests.bigquery.emulator --port 0`, from the repository's root."""

import argparse
from pathlib import Path

from tests.bigquery.emulator.server import serve


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.bigquery.emulator", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 (the default) takes a free one")
    parser.add_argument(
        "--storage", type=Path, help="the folder that stands for Cloud Storage: gs://x is x in it"
    )
    arguments = parser.parse_args()
    serve(arguments.port, arguments.storage)


main()
