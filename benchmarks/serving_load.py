"""What locust runs against the prediction service: one deal a request, at a set rate.

`benchmarks.serving run` starts it, in the environment of the tools that benchmarks use.
"""

import json
import os
import random
import time
from itertools import cycle

from locust import FastHttpUser, task

with open(os.environ["BENCHMARK_DEALS"], encoding="utf-8") as file:
    BODIES = cycle([line.strip().encode() for line in file])
HEADERS = {
    "Authorization": f"Bearer {os.environ['BENCHMARK_KEY']}",
    "Content-Type": "application/json",
}


EACH = float(os.environ["BENCHMARK_EACH"])
RANDOM = random.Random(1)


class Rep(FastHttpUser):  # type: ignore[misc]
    """Asks about one deal after the other, once a second or (with a rate of 0) without a pause.

    Reps know nothing of each other: each asks at times of its own, those of a Poisson process. So
    now and then several ask at once, and now and then nobody does. A late answer moves no request
    but its own client's next.
    """

    def on_start(self) -> None:
        """Begin at a time of its own."""
        self.due = time.monotonic()
        time.sleep(self.wait_time())

    def wait_time(self) -> float:
        """Seconds until the next request is due."""
        if not EACH:
            return 0.0
        self.due += RANDOM.expovariate(EACH)
        return max(0.0, self.due - time.monotonic())

    @task  # type: ignore[untyped-decorator]
    def match(self) -> None:
        """Count an answer of another kind as a failure."""
        with self.client.post(
            "/v1/match", data=next(BODIES), headers=HEADERS, catch_response=True
        ) as response:
            if response.status_code != 200 or "matches" not in response.text:
                response.failure(f"{response.status_code}: {json.dumps(response.text[:200])}")
