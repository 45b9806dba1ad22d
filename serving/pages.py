"""The page of the routes: the OpenAPI document as one file, with no script and nothing to load."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import jinja2
from markupsafe import Markup

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{{ document.info.title }} {{ document.info.version }}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem;
  color: #222; }
h2 { margin-top: 2.5rem; border-top: 1px solid #ccc; padding-top: 1rem; font-size: 1.1rem; }
code, pre { font: 14px/1.4 ui-monospace, monospace; background: #f4f4f4; }
pre { padding: .75rem; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: .2rem .8rem .2rem 0; }
code, td { overflow-wrap: anywhere; }
</style>
<h1>{{ document.info.title }} {{ document.info.version }}</h1>
<p>{{ document.info.summary }} Every route but health wants <code>Authorization: Bearer KEY</code>;
<code>onedeal keys create NAME</code> makes a key. The same as an OpenAPI document:
<a href="openapi.json">openapi.json</a>.</p>
{% for path, methods in document.paths.items() %}{% for method, route in methods.items() %}
<h2>{{ method | upper }} <code>{{ path }}</code></h2>
<p>{{ route.description or route.summary }}</p>
{% set body = route.get("requestBody") %}
{% if body %}{% set sent = body["content"].values() | first %}{{ fields(sent["schema"]) }}
{% set example = sent.get("example") %}
{% if example %}<pre>curl -s {{ address }}{{ path }} \\
  -H "Authorization: Bearer $ONEDEAL_API_KEY" \\
  -H 'Content-Type: application/json' \\
  -d '{{ example | as_json }}'</pre>{% endif %}{% endif %}
<p>Answers:
{% for status, answer in route.responses.items() %}<code>{{ status }}</code>
{{ answer.description }}{{ "" if loop.last else ", " }}{% endfor %}</p>
{% set answer = (route.responses.get("200") or {}).get("content", {}).get("application/json") %}
{% if answer %}{{ fields(answer["schema"]) }}{% endif %}
{% endfor %}{% endfor %}
</html>
"""

FIELDS = """<table>{% for field in fields %}<tr><td><code>{{ field.name }}</code></td>
<td>{{ field.type }}</td><td>{{ field.text }}</td></tr>{% endfor %}</table>"""


def documentation(document: dict[str, Any], address: str) -> str:
    """The page. address: where the service is, for the examples."""
    environment = _environment()

    def fields(schema: dict[str, Any]) -> Markup:
        rows = _rows(document, schema, "")
        return Markup(environment.from_string(FIELDS).render(fields=rows))

    page = environment.from_string(PAGE)
    return page.render(document=document, address=address, fields=fields)


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(autoescape=True, trim_blocks=True)
    environment.filters["as_json"] = json.dumps
    return environment


def _rows(document: dict[str, Any], schema: dict[str, Any], prefix: str) -> list[dict[str, str]]:
    """A row for each field, those of inner objects after their own."""
    found: list[dict[str, str]] = []
    for name, field in _resolved(document, schema).get("properties", {}).items():
        kinds = [one for one in field.get("anyOf", [field]) if one.get("type") != "null"]
        many = [one["items"] for one in kinds if one.get("type") == "array" and "items" in one]
        inner = [_resolved(document, one) for one in [*kinds, *many]]
        words = [_word(one) for one in kinds]
        path = f"{prefix}{name}"
        found.append(
            {
                "name": path,
                "type": " or ".join(dict.fromkeys(words)),
                "text": str(field.get("description", "")),
            }
        )
        # The columns of a deal stand there once.
        if name != "deals":
            for one in inner:
                found += _rows(document, one, f"{path}.")
    return found


def _resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        found: dict[str, Any] = document["components"]["schemas"][name]
        return found
    return schema


def _word(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return "object"
    if schema.get("type") == "array":
        return f"list of {_word(schema.get('items', {}))}"
    return str(schema.get("format") or schema.get("type") or "any")
