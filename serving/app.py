"""The routes, and the OpenAPI document that describes them."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from flows import __version__
from serving.access import HEALTH, PUBSUB, READY, REVIEW, Access
from serving.answers import Answer
from serving.guard import UNFORESEEN, Guard
from serving.limits import RateLimit
from serving.metrics import CONTENT_TYPE, Metrics
from serving.pages import documentation
from serving.problems import CODES, Problem
from serving.review_routes import ReviewRoutes
from serving.schemas import (
    MAX_DEALS,
    DealInstance,
    ErrorResponse,
    MatchRequest,
    MatchResponse,
    PredictRequest,
    PredictResponse,
    PushRequest,
    ReviewForm,
    TriggerResponse,
    VerdictRequest,
    VerdictResponse,
    read,
)
from serving.service import Service
from serving.settings import ServingSettings
from serving.triggers import Triggers

REQUESTS = (MatchRequest, VerdictRequest, ReviewForm, PredictRequest, PushRequest)
FORM = "application/x-www-form-urlencoded"
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]
Route = Callable[[Request], Awaitable[Response]]


def create_app(
    service: Service,
    settings: ServingSettings,
    access: Access,
    *,
    metrics: Metrics,
    review: ReviewRoutes,
    triggers: Triggers | None = None,
    refresh_metrics: Callable[[], None] = lambda: None,
    lifespan: Lifespan | None = None,
) -> Guard:
    """The service as an ASGI application: FastAPI's, behind its guard.

    triggers: None where no push messages are taken. refresh_metrics: is called before the metrics
    are shown.
    """
    app = FastAPI(
        title="onedeal",
        version=__version__,
        summary="One deal in, its duplicates out.",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    limit = RateLimit(settings.rate_limit)
    routes = _Routes(service, settings, limit, metrics, review, triggers, refresh_metrics, app)
    for method, path, route in routes.of_this_service():
        is_open = path in HEALTH
        request, response = BODIES.get(path, (None, None))
        is_form = (method, path) == ("POST", REVIEW)
        app.add_api_route(
            path,
            route,
            methods=[method],
            status_code=303 if is_form else None,
            response_model=response,
            response_class=Response if response is None else _Json,
            responses=_answers(path, is_open, is_form),
            openapi_extra=_described(request, is_open, is_form),
            operation_id=route.__name__,
        )
        if method == "GET":
            app.add_api_route(path, route, methods=["HEAD"], include_in_schema=False)
    if settings.container is not None:
        container = settings.container
        for methods, path, route in (
            (["POST"], container.predict_route, routes.predict),
            (["GET", "HEAD"], container.health_route, routes.readyz),
        ):
            if path not in ("/predict", *HEALTH):
                app.add_api_route(path, route, methods=methods, include_in_schema=False)
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected)
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]
    paths = frozenset(one.path for one in app.routes if isinstance(one, APIRoute))
    return Guard(app, settings, access, limit, metrics, paths)


class _Json(JSONResponse):
    """JSON that is written already. It is FastAPI's kind, so that the document has its schema."""

    def render(self, content: Any) -> bytes:
        return content if isinstance(content, bytes) else str(content).encode()


BODIES: dict[str, tuple[type[BaseModel], type[BaseModel]]] = {
    "/v1/match": (MatchRequest, MatchResponse),
    "/v1/verdicts": (VerdictRequest, VerdictResponse),
    "/predict": (PredictRequest, PredictResponse),
    PUBSUB: (PushRequest, TriggerResponse),
}
"""What goes in and what comes out, by path."""


class _Routes:
    """The routes' functions. Their first lines are their descriptions in the document."""

    def __init__(
        self,
        service: Service,
        settings: ServingSettings,
        limit: RateLimit,
        metrics: Metrics,
        review: ReviewRoutes,
        triggers: Triggers | None,
        refresh_metrics: Callable[[], None],
        app: FastAPI,
    ) -> None:
        self._service = service
        self._settings = settings
        self._limit = limit
        self._metrics = metrics
        self._review = review
        self._triggers = triggers
        self._refresh_metrics = refresh_metrics
        self._app = app

    def of_this_service(self) -> list[tuple[str, str, Route]]:
        """Method, path and function of each."""
        return [
            ("POST", "/v1/match", self.match),
            ("POST", "/v1/verdicts", self.verdicts),
            ("POST", "/predict", self.predict),
            ("POST", PUBSUB, self.trigger),
            ("GET", REVIEW, self.review),
            ("POST", REVIEW, self.judge),
            ("GET", "/healthz", self.healthz),
            ("GET", "/ready", self.ready),
            ("GET", "/readyz", self.readyz),
            ("GET", "/metrics", self.metrics),
            ("GET", "/openapi.json", self.openapi),
            ("GET", "/docs", self.docs),
        ]

    async def match(self, request: Request) -> Response:
        """Find the known deals that may be the one asked about (or each of up to 100)."""
        asked = read(MatchRequest, await request.body())
        answers = await self._match(request, asked.asked, asked.floor, asked.remember)
        floor = self._settings.match_floor if asked.floor is None else asked.floor
        found = [_deal_answer(answer, floor) for answer in answers]
        return _json(
            {
                "request_id": request.state.request_id,
                "model_version": answers[0].model_version,
                "scored_by": answers[0].scored_by,
                **(found[0] if asked.deals is None else {"results": found}),
            }
        )

    async def verdicts(self, request: Request) -> Response:
        """Record a person's verdict on a pair; it is a label of the next training."""
        verdict = read(VerdictRequest, await request.body())
        left, right, recorded = await self._service.verdict(verdict)
        return _json(
            {
                "request_id": request.state.request_id,
                "deal_id_a": left,
                "deal_id_b": right,
                "is_duplicate": verdict.is_duplicate,
                "recorded": recorded,
            },
            status=201 if recorded else 200,
        )

    async def predict(self, request: Request) -> Response:
        """Predict pairs by their features, or match deals, as Vertex AI asks a container to."""
        asked = read(PredictRequest, await request.body())
        deals = {
            number: read(
                DealInstance, json.dumps(instance).encode(), prefix=f"instances.{number}"
            ).deal
            for number, instance in enumerate(asked.instances)
            if "deal" in instance
        }
        pairs = [one for number, one in enumerate(asked.instances) if number not in deals]
        if deals and pairs:
            raise Problem(422, "instances: they must all be deals, or all be features of pairs.")
        predictions: list[dict[str, Any]]
        if deals:
            if len(deals) > MAX_DEALS:
                raise Problem(
                    422, f"instances: at most {MAX_DEALS} may be deals, and {len(deals)} are."
                )
            ids = [deal.deal_id for deal in deals.values() if deal.deal_id is not None]
            if len(ids) != len(set(ids)):
                raise Problem(422, "instances: each deal_id must stand in them once.")
            answers = await self._match(request, list(deals.values()), None)
            predictions = [
                {
                    "model_version": answer.model_version,
                    "scored_by": answer.scored_by,
                    **_deal_answer(answer, self._settings.match_floor),
                }
                for answer in answers
            ]
        else:
            predictions = [
                _class_probabilities(one) for one in await self._service.probabilities(pairs)
            ]
        return _json({"predictions": predictions})

    async def trigger(self, request: Request) -> Response:
        """Take a push message of Pub/Sub: start `retrain`, once a message and business date."""
        triggers = self._triggers
        assert triggers is not None, "without settings of Pub/Sub's, nobody gets here"
        push = read(PushRequest, await request.body())
        taken = await self._service.over_network(lambda: triggers.take(push))
        if taken is None:
            self._metrics.triggers.labels("ignored").inc()
            return Response(status_code=204)
        run, started = taken
        self._metrics.triggers.labels("started" if started else "known").inc()
        return _json(
            {
                "request_id": request.state.request_id,
                "run": run.run,
                "business_date": run.business_date,
                "started": started,
            },
            status=202 if started else 200,
        )

    async def review(self, request: Request) -> Response:
        """The review page: the pairs of the review queue, one at a time, for people to judge."""
        return await self._review.show(request)

    async def judge(self, request: Request) -> Response:
        """Record the verdict of the review page's form."""
        return await self._review.judge(request)

    async def healthz(self, request: Request) -> Response:
        """Whether the process lives."""
        return _json({"status": "alive"})

    async def readyz(self, request: Request) -> Response:
        """Whether it can answer a match; 503 and why, where it can't."""
        reason = self._service.why_not_ready()
        if reason is not None:
            raise Problem(503, reason, headers={"Retry-After": "5"})
        return _json({"status": "ready"})

    async def ready(self, request: Request) -> Response:
        """The same as `/readyz`, by a name that Cloud Run lets through from outside."""
        return await self.readyz(request)

    async def metrics(self, request: Request) -> Response:
        """Metrics for Prometheus."""
        self._refresh_metrics()
        return Response(self._metrics.render(), media_type=CONTENT_TYPE)

    async def openapi(self, request: Request) -> Response:
        """This document."""
        return _json(self._app.openapi())

    async def docs(self, request: Request) -> Response:
        """The routes, for people."""
        page = documentation(self._app.openapi(), str(request.base_url).rstrip("/"))
        return Response(page, media_type="text/html; charset=utf-8")

    async def _match(
        self, request: Request, deals: Sequence[Any], floor: float | None, remember: bool = False
    ) -> list[Answer]:
        state = request.state
        if len(deals) > 1:
            # The first one was counted with the request.
            self._limit.demand(state.client, len(deals) - 1)
        return await self._service.match(
            deals,
            self._settings.match_floor if floor is None else floor,
            request_id=state.request_id,
            client=state.client,
            since=state.started_at,
            remember=remember,
        )


def _deal_answer(answer: Answer, floor: float) -> dict[str, Any]:
    return {
        "deal_id": answer.deal_id,
        "compared": len(answer.matches),
        "matches": [
            {
                "candidate_deal_id": match.candidate_deal_id,
                "probability": match.probability,
                "decision": match.decision,
                "threshold": answer.threshold,
                "reasons": [
                    {
                        "feature": reason.feature,
                        "text": reason.text,
                        "contribution": reason.contribution,
                    }
                    for reason in match.reasons
                ],
            }
            for match in answer.matches
            if match.probability >= floor
        ],
    }


def _class_probabilities(probability: float) -> dict[str, Any]:
    """As an endpoint answers with a model that BigQuery registered."""
    return {
        "predicted_is_duplicate": ["1" if probability > 0.5 else "0"],
        "is_duplicate_probs": [probability, 1 - probability],
        "is_duplicate_values": ["1", "0"],
    }


def _json(document: Any, status: int = 200) -> Response:
    return _Json(json.dumps(document, ensure_ascii=False, allow_nan=False), status_code=status)


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    body = error.body(request.state.request_id)
    return _Json(body, status_code=error.status, headers=error.headers)


async def _unexpected(request: Request, error: Exception) -> Response:
    """What nobody foresaw; the guard logs where it happened."""
    return await _problem(request, Problem(500, UNFORESEEN))


async def _http_error(request: Request, error: Exception) -> Response:
    """What the router says of methods."""
    assert isinstance(error, HTTPException)
    words = {405: "This route has other methods."}
    status = error.status_code if error.status_code in CODES else 400
    problem = Problem(status, words.get(status, str(error.detail)), headers=error.headers)
    return await _problem(request, problem)


# --- the OpenAPI document ------------------------------------------------------------------------


def _described(request: type[BaseModel] | None, is_open: bool, is_form: bool) -> dict[str, Any]:
    extra: dict[str, Any] = {"security": [] if is_open else [{"key": []}]}
    if request is not None:
        schema = {"$ref": f"#/components/schemas/{request.__name__}"}
        content: dict[str, Any] = {"schema": schema}
        if request in EXAMPLES:
            content["example"] = EXAMPLES[request]
        extra["requestBody"] = {"required": True, "content": {"application/json": content}}
    if is_form:
        content = {"schema": {"$ref": f"#/components/schemas/{ReviewForm.__name__}"}}
        extra["requestBody"] = {"required": True, "content": {FORM: content}}
    return extra


EXAMPLES: dict[type[BaseModel], dict[str, Any]] = {
    MatchRequest: {
        "deal": {
            "deal_name": "Acme - 50 seats",
            "company_name": "Acme Inc",
            "company_domain": "acme.example",
            "amount": 12000,
            "currency": "EUR",
            "close_date": "2026-12-31",
        }
    },
    VerdictRequest: {
        "deal_id_a": "hs-1",
        "deal_id_b": "sf-7",
        "is_duplicate": True,
        "labelled_by": "sales-ops",
    },
    PredictRequest: {"instances": [{"deal": {"deal_name": "Acme - 50 seats"}}]},
}


def _answers(path: str, is_open: bool, is_form: bool) -> dict[int | str, dict[str, Any]]:
    """The errors of a route, and its other successes."""
    codes = {401, 403, 429, 503} if not is_open else {503} if path in READY else set()
    if path in BODIES or is_form:
        codes |= {400, 408, 413, 415, 422, 503}
    if path == "/v1/verdicts":
        codes |= {404}
    if path == REVIEW:
        codes |= {422}
    found: dict[int | str, dict[str, Any]] = {
        code: {"model": ErrorResponse, "description": CODES[code]} for code in sorted(codes)
    }
    if path == REVIEW:
        for answer in found.values():
            # What the page itself refuses is said on a page.
            answer["content"] = {"text/html": {"schema": {"type": "string"}}}
    if path == "/v1/verdicts":
        found[201] = {"model": VerdictResponse, "description": "a new verdict"}
    if path == PUBSUB:
        found[202] = {"model": TriggerResponse, "description": "a new run"}
        found[204] = {"description": "a message of another kind"}
    return found


def _document(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document, with the requests' schemas and the key."""
    from fastapi.openapi.utils import get_openapi

    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, summary=app.summary, routes=app.routes
        )
        _, schemas = models_json_schema(
            [(model, "validation") for model in REQUESTS],
            ref_template="#/components/schemas/{model}",
        )
        components = document.setdefault("components", {})
        components.setdefault("schemas", {}).update(schemas["$defs"])
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        app.openapi_schema = document
    return app.openapi_schema
