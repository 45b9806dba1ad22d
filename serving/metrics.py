"""What Prometheus may know: counts, times and states; no deal, no person, no key.

Labels take few values: routes as they are declared, words of this package, model versions.
"""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """The metrics of one service, in a registry of its own."""

    def __init__(self) -> None:
        disable_created_metrics()
        self.registry = CollectorRegistry()
        self.requests = self._counter(
            "onedeal_requests", "Requests by route, method and status.", "route", "method", "status"
        )
        self.seconds = Histogram(
            "onedeal_request_seconds",
            "Time from the first byte read to the answer, by route.",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.deals = self._counter("onedeal_deals", "Deals that were matched.")
        self.pairs = self._counter("onedeal_pairs", "Pairs by decision.", "decision")
        self.scored = self._counter(
            "onedeal_scored_deals", "Deals by who gave the probabilities.", "scored_by"
        )
        self.endpoint = self._counter(
            "onedeal_endpoint_calls",
            "Calls of Vertex AI's endpoint: answered, failed, or left out while it rests.",
            "outcome",
        )
        self.endpoint_resting = self._gauge(
            "onedeal_endpoint_resting", "1 while the circuit breaker keeps calls from the endpoint."
        )
        self.verdicts = self._counter("onedeal_verdicts", "Verdicts: new or known.", "outcome")
        self.triggers = self._counter("onedeal_triggers", "Push messages.", "outcome")
        self.waiting = self._gauge("onedeal_waiting_requests", "Requests that wait for a match.")
        self.ready = self._gauge("onedeal_ready", "1 while the service can answer a match.")
        self.bundle = self._gauge(
            "onedeal_bundle", "1 for the model version that answers.", "model_version"
        )
        self.bundle_refused = self._gauge(
            "onedeal_bundle_refused", "1 while the current bundle is broken and the old one serves."
        )
        self.artifacts_trouble = self._gauge(
            "onedeal_artifacts_trouble_seconds",
            "For how long nothing newer could be fetched of the artifact store; 0: it can.",
        )
        self.log_rows = self._gauge(
            "onedeal_log_waiting_rows", "Rows of the prediction log not yet in the warehouse."
        )
        self.log_bytes = self._gauge("onedeal_log_waiting_bytes", "What they take on the disk.")
        self.log_trouble = self._gauge(
            "onedeal_log_trouble_seconds",
            "For how long disk or warehouse took no rows of the log, or no verdicts; 0: it does.",
            "what",
        )
        self.log_lost = self._gauge(
            "onedeal_log_lost_rows",
            "Rows of the log, and verdicts, that neither disk nor memory had room for.",
        )
        self.verdicts_waiting = self._gauge(
            "onedeal_verdicts_waiting_rows", "Verdicts not yet where the next training finds them."
        )
        self.known_deals = self._gauge("onedeal_known_deals", "Deals that are matched against.")

    def render(self) -> bytes:
        """The metrics in Prometheus's text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)
