"""The service's settings: what is read, and what is refused."""

from __future__ import annotations

import pytest

from flows.errors import SettingsError
from serving.settings import ServingSettings

AIP = {"AIP_HTTP_PORT": "8081", "AIP_PREDICT_ROUTE": "/p", "AIP_HEALTH_ROUTE": "/h"}


def test_defaults_and_what_wins_over_them() -> None:
    found = ServingSettings.from_env({})
    assert (found.host, found.port, found.container) == ("127.0.0.1", 8080, None)
    env = {"PORT": "9000", "ONEDEAL_HOST": "0.0.0.0", "ONEDEAL_OIDC_EMAILS": ""}
    assert ServingSettings.from_env(env).port == 9000
    assert ServingSettings.from_env(env).host == "0.0.0.0"
    told = ServingSettings.from_env(env, host="::1", port=0)
    assert (told.host, told.port) == ("::1", 0)
    assert found.delivery_seconds is None
    assert ServingSettings.from_env({"ONEDEAL_DELIVERY_SECONDS": "120"}).delivery_seconds == 120


def test_vertex_ai_opens_its_routes_only_where_it_says_all() -> None:
    found = ServingSettings.from_env({**AIP, "AIP_STORAGE_URI": "gs://b/x"})
    assert found.container is not None and found.container.storage_uri == "gs://b/x"
    assert (found.host, found.port) == ("0.0.0.0", 8081)
    for name in AIP:
        assert ServingSettings.from_env({k: v for k, v in AIP.items() if k != name}).container is (
            None
        )


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"PORT": "http"}, "PORT is 'http'; it must be a whole number from 0 to 65535"),
        ({"PORT": "70000"}, "PORT"),
        ({"ONEDEAL_MATCH_FLOOR": "2"}, "from 0 to 1"),
        ({"ONEDEAL_MATCH_FLOOR": "nan"}, "from 0 to 1"),
        ({"ONEDEAL_RATE_LIMIT": "0"}, "above 0"),
        ({"ONEDEAL_MAX_BODY_BYTES": "12"}, "above 1023"),
        ({"ONEDEAL_ENDPOINT_SECONDS": "-1"}, "above 0"),
        ({"ONEDEAL_DELIVERY_SECONDS": "0"}, "from 1 to 3600"),
        ({"ONEDEAL_PREFECT_DEPLOYMENT": "daily"}, "flow/deployment"),
        ({"ONEDEAL_PREFECT_DEPLOYMENT": "retrain/daily"}, "PREFECT_API_URL is not"),
        ({"ONEDEAL_PUBSUB_AUDIENCE": "x"}, "ONEDEAL_PUBSUB_EMAIL is not"),
        ({"ONEDEAL_PUBSUB_EMAIL": "x"}, "ONEDEAL_PUBSUB_AUDIENCE is not"),
        ({"ONEDEAL_OIDC_AUDIENCE": "x"}, "ONEDEAL_OIDC_EMAILS is not"),
        ({**AIP, "AIP_PREDICT_ROUTE": "predict"}, "begins with /"),
        ({**AIP, "AIP_PREDICT_ROUTE": "/v1/match"}, "none that needs a key"),
        ({**AIP, "AIP_HEALTH_ROUTE": "/metrics"}, "none that needs a key"),
    ],
)
def test_what_is_refused_is_named(env: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        ServingSettings.from_env(env)
