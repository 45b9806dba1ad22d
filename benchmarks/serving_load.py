"""What locust runs against the prediction service: one deal a request, at a set rate.

`benchmarks.serving run` starts it, in the environment of the tools that benchmarks use.
"""

import json
import os
from itertools import cycle

from locust import FastHttpUser, constant_throughput, task

with open(os.environ["BENCHMARK_DEALS"], encoding="utf-8") as file:
    BODIES = cycle([line.strip().encode() for line in file])
HEADERS = {
    "Authorization": f"Bearer {os.environ['BENCHMARK_KEY']}",
    "Content-Type": "application/json",
}


class Rep(FastHttpUser):  # type: ignore[misc]
    """Asks about one deal after the other, once a second or (with a rate of 0) without a pause."""

    wait_time = constant_throughput(float(os.environ["BENCHMARK_EACH"]) or 1000)

    @task  # type: ignore[untyped-decorator]
    def match(self) -> None:
        """Count an answer of another kind as a failure."""
        with self.client.post(
            "/v1/match", data=next(BODIES), headers=HEADERS, catch_response=True
        ) as response:
            if response.status_code != 200 or "matches" not in response.text:
                response.failure(f"{response.status_code}: {json.dumps(response.text[:200])}")
