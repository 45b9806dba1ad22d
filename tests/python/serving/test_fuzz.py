"""Whatever comes in, what goes out is an answer or a refusal, and never an error of the service."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.schemas import Deal
from tests.python.serving.serve import KEY, Server

NASTY = [
    "",
    " ",
    "\x01\x02\x1b[31m\x7f\x85",
    "\u202e\u200b\ufeff\u0000",
    "😀 ẞ Ω Å ﬁ ﷽ 𝔘𝔫𝔦",
    "Z̸̡̛" * 200,
    "'; drop table deals; --",
    "' or 1=1 --",
    "\"; select * from read_csv('/etc/passwd'); --",
    "{{ 7*7 }} ${jndi:ldap://x} <script>alert(1)</script> %s %n %00",
    "../../etc/passwd",
    "a" * 1000,
    "a " * 500,
    "=cmd|' /C calc'!A0",
    "1e309",
    "-" * 64,
    "NaN",
    "null",
    "9" * 400,
]
VALUES: list[Any] = [
    *NASTY,
    None,
    True,
    0,
    -1,
    1e308,
    -0.0,
    10**14,
    1e-300,
    [],
    {},
    [[[[]]]],
    {"a": {"b": [{"c": None}]}},
]
ALLOWED = {200, 400, 413, 422}


def test_nasty_values_in_every_field(server: Server) -> None:
    for field in Deal.model_fields:
        for value in VALUES:
            answer = server.post("/v1/match", {"deal": {"deal_name": "x", field: value}})
            assert answer.status_code in ALLOWED, (field, value, answer.text)
    every = dict.fromkeys(Deal.model_fields, "'; drop table deals; --")
    for field in ("amount", "created_at", "updated_at", "close_date"):
        del every[field]
    assert server.post("/v1/match", {"deal": every}).status_code == 200


def test_ten_megabytes_in_a_field(server: Server) -> None:
    for body in (
        {"deal": {"deal_name": "x" * 10_000_000}},
        {"deal": {"description": "☃" * 4_000_000}},
        {"deals": [{"description": "x" * 20_000}] * 120},
    ):
        assert server.post("/v1/match", body).status_code == 413
    # What fits into a request, and not into a field.
    answer = server.post("/v1/match", {"deal": {"description": "x" * 1_500_000}})
    assert answer.status_code == 422 and "20,000 characters" in answer.text
    # The longest that there may be.
    longest = {
        "deal_name": "word " * 200,
        "company_name": "comp " * 200,
        "description": "Zürich " * 2857,
    }
    assert server.post("/v1/match", {"deals": [longest] * 30}).status_code == 200


def test_json_that_is_deep_or_broken(server: Server) -> None:
    for body in (
        b"[" * 500_000,
        b'{"deal":' * 100_000,
        b'{"deal": {"description": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}}",
        b'{"deal": {"amount": ' + b"1" * 1_000_000 + b"}}",
        b'{"deal": {"amount": 1e' + b"9" * 1000 + b"}}",
        b'{"deal": {"deal_name": "\\ud800"}}',
        b'{"deal": {"deal_name": "\xff\xfe"}}',
        b"\x00",
        b"\xef\xbb\xbf{}",
        b'{"deal": {}} {"deal": {}}',
        b"NaN",
    ):
        for path in ("/v1/match", "/v1/verdicts", "/predict"):
            answer = server.post(path, content=body)
            assert answer.status_code in (400, 422), (path, body[:40], answer.text)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.sampled_from(NASTY),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
DEALS = st.dictionaries(
    st.sampled_from([*Deal.model_fields, "other"]), TEXTS | ANYTHING, max_size=8
)


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(document=st.fixed_dictionaries({"deal": DEALS}) | st.fixed_dictionaries({"deals": ANYTHING}))
def test_any_deal_is_answered_or_refused(server: Server, document: Any) -> None:
    answer = server.post("/v1/match", content=json.dumps(document).encode())
    assert answer.status_code in ALLOWED, answer.text


def test_schemathesis_finds_no_error(server: Server, tmp_path: Path) -> None:
    """Its own requests by the OpenAPI document, right ones and wrong ones."""
    checks = (
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_schema_conformance",
        "response_headers_conformance",
        "missing_required_header",
        "unsupported_method",
        "ignored_auth",
    )
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "run",
        f"{server.url}/openapi.json",
        "--header",
        f"Authorization: Bearer {KEY}",
        "--checks",
        ",".join(checks),
        # It has no token of Pub/Sub's; test_http.py asks that route.
        "--exclude-path",
        "/v1/trigger/pubsub",
        "--phases",
        "examples,coverage,fuzzing",
        "--mode",
        "all",
        "--max-examples",
        "15",
        "--workers",
        "1",
        "--seed",
        "1",
        "--generation-database",
        "none",
        "--no-color",
    ]
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    result = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
    generated, passed = re.search(r"(\d+) generated, (\d+) passed", result.stdout).groups()  # type: ignore[union-attr]
    assert int(generated) > 300 and passed == generated, result.stdout[-2000:]
