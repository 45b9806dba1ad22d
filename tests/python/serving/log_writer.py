"""A process that appends to a prediction log and tells which rows it has been promised to keep.

`python log_writer.py HOME THREADS [FILE_LIMIT]`: each line written to stdout is the request of an
append that has returned. FILE_LIMIT: bytes a file of this process may have, as on a full disk; a
line on stdin takes the limit away. SIGTERM closes the log.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from flows.contract import load_contract
from serving.prediction_log import PredictionLog
from serving.sinks import FileSink
from tests.python.homes import PROJECT
from tests.python.serving.rows import log_rows


def main(home: Path, threads: int, limit: int | None) -> None:
    schema = load_contract(PROJECT).table("prediction_log").arrow_schema()
    sink = FileSink(home / "files", schema, day_of="predicted_at")
    log = PredictionLog(home / "queue", sink, every=0.05, longest_pause=0.2)
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()

    signal.signal(signal.SIGTERM, stop)
    if limit is not None:
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, unlimited[1]))

        def make_room() -> None:
            sys.stdin.readline()
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)

        threading.Thread(target=make_room, daemon=True).start()

    def write(number: int) -> None:
        n = 0
        while not stopped.is_set():
            n += 1
            request = f"{os.getpid()}-{number}-{n}"
            log.append(log_rows(request, pairs=3))
            state = log.state
            os.write(1, f"{request} {state.rows_in_memory}\n".encode())

    writers = [threading.Thread(target=write, args=(number,)) for number in range(threads)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    log.close()
    state = log.state
    os.write(1, f"closed {state.rows_waiting}\n".encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else None)
