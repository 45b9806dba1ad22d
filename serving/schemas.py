"""What the service takes and gives, as pydantic models: the source of its OpenAPI document.

Requests are strict: no unknown field, no text where a number belongs. They are read from the bytes
of the request, since JSON has no type for times. An error names the field in the words of this
house: what it is, and what it must be.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from flows.contract import AMOUNT_DECIMALS, AMOUNT_DIGITS, MAX_IDENTIFIER, MIN_YEAR
from flows.warehouse import utc_now
from serving.problems import FieldProblem, Problem

M = TypeVar("M", bound=BaseModel)

MAX_DEALS = 100
MAX_INSTANCES = 1000
TEXT, LONG_TEXT = 1_000, 20_000
"""The longest texts that are taken, in characters."""
MAX_FIELDS = 20
"""Fields at fault that an answer names."""
MAX_FAULTS = 5_000
"""Of a body, before it is told that they are too many: to list each takes time from all clients."""
MOST_AHEAD = timedelta(days=1)
"""How far ahead a verdict's time may be; of two verdicts the later counts."""

TIME_WORDS = "a time as ISO 8601, such as 2026-08-01T09:30:00Z"
DATE_WORDS = "a date as ISO 8601, such as 2026-08-01"

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_TIME = re.compile(r"\d{4}-\d\d-\d\d(?P<clock>[Tt ]\d\d:\d\d.*)?")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_SCALE = Decimal(1).scaleb(-AMOUNT_DECIMALS)


def _wrong(allowed: str) -> PydanticCustomError:
    return PydanticCustomError("onedeal", "{allowed}", {"allowed": allowed})


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise _wrong("it must hold no NUL character")
    return text


def is_identifier(text: str) -> bool:
    """Whether a text that is not blank may stand where a request has an identifier."""
    return len(text) <= MAX_IDENTIFIER and not _CONTROL.search(text)


def _identifier(text: str) -> str:
    """Without the blanks around it, as `onedeal ingest` takes it."""
    if _CONTROL.search(text):
        raise _wrong("it must hold no control character")
    text = text.strip()
    if not text:
        raise _wrong("it must not be blank")
    return text


def _time_text(value: Any) -> Any:
    """ISO 8601 only: pydantic would take a number, and one in quotes, for seconds."""
    found = _TIME.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise _wrong(f"it is {_shown(value)}; it must be {TIME_WORDS}")
    return value if found["clock"] else value + "T00:00:00"


def _date_text(value: Any) -> Any:
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        raise _wrong(f"it is {_shown(value)}; it must be {DATE_WORDS}")
    return value


def _from_1900(value: date) -> date:
    if value.year < MIN_YEAR:
        raise _wrong(f"it must not be before {MIN_YEAR}")
    return value


def _utc(value: datetime) -> datetime:
    """Without a zone it is UTC; as the contract has it, without one."""
    _from_1900(value)
    try:
        return value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)
    except OverflowError as error:
        raise _wrong("it must be before the year 10000 in UTC") from error


def _not_ahead(value: datetime) -> datetime:
    if value > utc_now() + MOST_AHEAD:
        raise _wrong("it must not be more than a day ahead")
    return value


def _no_text(value: Any) -> Any:
    """Numbers only: pydantic would take a text for a Decimal, and full-width digits in it."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(f"it is {_shown(value)}; it must be a number")
    return value


def _amount(value: Decimal) -> Decimal:
    # Arithmetic with a number such as 1e999999999 would overflow.
    if value and value.adjusted() >= AMOUNT_DIGITS:
        raise _wrong(f"it must have at most {AMOUNT_DIGITS} digits before the point")
    if not value or value.adjusted() < -AMOUNT_DIGITS:
        return Decimal("0.000")
    return value.quantize(_SCALE, rounding=ROUND_HALF_EVEN)


# What validators check stands in the document as a pattern, for those who generate requests by it.
WITHOUT_NUL: dict[str, Any] = {"pattern": r"^[^\u0000]*$"}
WITHOUT_CONTROL: dict[str, Any] = {"pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$"}

Text = Annotated[
    str, Field(max_length=TEXT, json_schema_extra=WITHOUT_NUL), AfterValidator(_without_nul)
]
LongText = Annotated[
    str, Field(max_length=LONG_TEXT, json_schema_extra=WITHOUT_NUL), AfterValidator(_without_nul)
]
Identifier = Annotated[
    str,
    Field(min_length=1, max_length=MAX_IDENTIFIER, json_schema_extra=WITHOUT_CONTROL),
    AfterValidator(_identifier),
]
Time = Annotated[datetime, Field(strict=False), BeforeValidator(_time_text), AfterValidator(_utc)]
Day = Annotated[date, Field(strict=False), BeforeValidator(_date_text), AfterValidator(_from_1900)]
Amount = Annotated[
    Decimal,
    Field(strict=False, allow_inf_nan=False),
    BeforeValidator(_no_text),
    AfterValidator(_amount),
    WithJsonSchema(
        {
            "type": "number",
            "exclusiveMinimum": -(10**AMOUNT_DIGITS),
            "exclusiveMaximum": 10**AMOUNT_DIGITS,
        }
    ),
]
# Of a form or a query, whose values are texts.
Place = Annotated[int, Field(strict=False, ge=0, le=10**9)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Strict(BaseModel):
    """A part of a request."""

    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)


class Deal(Strict):
    """A deal, in the columns of `raw_deals`. What is missing or null matches nothing."""

    deal_id: Identifier | None = Field(None, description="Made up for the answer where missing.")
    deal_name: Text | None = Field(None, description="The deal's title.")
    company_name: Text | None = Field(None, description="The account's name.")
    company_domain: Text | None = Field(None, description="The account's web site or domain.")
    contact_name: Text | None = Field(None, description="The main contact's name.")
    contact_email: Text | None = Field(None, description="The main contact's e-mail address.")
    contact_phone: Text | None = Field(None, description="The main contact's phone number.")
    owner: Text | None = Field(None, description="The sales rep who owns the deal.")
    amount: Amount | None = Field(None, description="In the deal's currency; 3 decimals count.")
    currency: Text | None = Field(None, description="ISO 4217 code of the amount's currency.")
    stage: Text | None = Field(None, description="Where the deal stands in the pipeline.")
    source: Text | None = Field(None, description="The CRM or import the deal came from.")
    description: LongText | None = Field(None, description="Free text about the deal.")
    created_at: Time | None = Field(None, description="When it was created; UTC without a zone.")
    close_date: Day | None = Field(None, description="The expected or actual close date.")
    updated_at: Time | None = Field(None, description="When it was last changed.")

    def columns(self) -> dict[str, object]:
        """The deal in the columns of the contract."""
        return dict(self)


class MatchRequest(Strict):
    """One deal, or up to 100."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["deal"]}, {"required": ["deals"]}]}
    )

    deal: Deal | None = Field(None, description="The deal to find duplicates of.")
    deals: Annotated[list[Deal], Field(min_length=1, max_length=MAX_DEALS)] | None = Field(
        None, description="Several of them, instead of `deal`."
    )
    floor: Share | None = Field(
        None, description="Matches from this probability on; by default the service's."
    )
    remember: bool = Field(
        False,
        description=(
            "Compare later requests with these deals too, until `onedeal ingest` brings them: two "
            "people may key one deal within minutes. Each needs its deal_id."
        ),
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> MatchRequest:
        if (self.deal is None) == (self.deals is None):
            raise _wrong("it must have either deal or deals")
        ids = [deal.deal_id for deal in self.asked if deal.deal_id is not None]
        if len(ids) != len(set(ids)):
            raise _wrong("each deal_id must stand in it once")
        if self.remember and len(ids) < len(self.asked):
            raise _wrong("with remember, each deal must have a deal_id")
        return self

    @property
    def asked(self) -> list[Deal]:
        """The deals, of either form."""
        return self.deals if self.deals is not None else [self.deal or Deal.model_construct()]


class VerdictRequest(Strict):
    """A person's verdict on a pair: named by its deals, or by a request and what it answered."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [{"required": ["deal_id_a", "deal_id_b"]}, {"required": ["request_id"]}]
        }
    )

    deal_id_a: Identifier | None = Field(None, description="One deal of the pair.")
    deal_id_b: Identifier | None = Field(None, description="The other deal of the pair.")
    request_id: Identifier | None = Field(
        None, description="An answer of /v1/match; with it, the deal asked about need not be named."
    )
    candidate_deal_id: Identifier | None = Field(
        None, description="With request_id: the match that was judged; not needed where it had one."
    )
    is_duplicate: bool = Field(description="Whether the two are one deal.")
    labelled_by: Identifier = Field(description="Who judged it.")
    labelled_at: Annotated[Time, AfterValidator(_not_ahead)] | None = Field(
        None, description="When; by default now, which a time up to a day ahead counts as too."
    )

    @model_validator(mode="after")
    def _a_pair_is_named(self) -> VerdictRequest:
        by_pair = self.deal_id_a is not None and self.deal_id_b is not None
        half = (self.deal_id_a is None) != (self.deal_id_b is None)
        if half or not (by_pair or self.request_id is not None):
            raise _wrong("it must have deal_id_a and deal_id_b, or request_id")
        if by_pair and self.candidate_deal_id is not None:
            raise _wrong("it must have deal_id_a and deal_id_b, or candidate_deal_id, not both")
        if by_pair and self.deal_id_a == self.deal_id_b:
            raise _wrong("deal_id_a and deal_id_b must be two deals")
        return self


class ReviewQuery(BaseModel):
    """What the review page is asked for, behind the question mark."""

    model_config = ConfigDict(strict=True, extra="ignore", hide_input_in_errors=True)

    after: Place = Field(0, description="The place in the queue after which it goes on.")
    pair: str | None = Field(None, description="The pair to show instead.")
    last: str | None = Field(None, description="The pair whose verdict it tells.")


class ReviewForm(Strict):
    """The form of the review page."""

    deal_id_a: Identifier = Field(description="One deal of the pair.")
    deal_id_b: Identifier = Field(description="The other deal of the pair.")
    is_duplicate: Literal["yes", "no"] = Field(description="Whether the two are one deal.")
    pair_id: str = Field("", description="The pair, which the next page tells the verdict of.")
    after: Place = Field(0, description="The place in the queue after which it goes on.")
    seen: str = Field("", max_length=64, description="When the newest verdict it told was given.")


class PredictRequest(BaseModel):
    """Vertex AI's request to a container."""

    model_config = ConfigDict(strict=True, extra="ignore", hide_input_in_errors=True)

    instances: Annotated[list[dict[str, Any]], Field(max_length=MAX_INSTANCES)] = Field(
        description=(
            'Each one a pair\'s features by name, as in `bundle.json`, or `{"deal": {...}}`.'
        )
    )


class DealInstance(Strict):
    """An instance that is a deal."""

    deal: Deal


class PushMessage(BaseModel):
    """A message of Pub/Sub, as it pushes it. What it may add later is no error."""

    messageId: Annotated[str, Field(min_length=1, max_length=MAX_IDENTIFIER)]
    publishTime: str = ""
    data: str = ""
    attributes: dict[str, str] = Field(default_factory=dict)


class PushRequest(BaseModel):
    """The body of a push request."""

    message: PushMessage
    subscription: str = ""


class ReasonGiven(BaseModel):
    """The part of one aspect of the deals, such as their names, in the probability."""

    feature: str = Field(description="The feature of the aspect that counts most.")
    text: str = Field(description="What it says of the pair, such as `same domain`.")
    contribution: float = Field(
        description="What the aspect's features add to the log-odds of an average pair."
    )


class MatchGiven(BaseModel):
    """A known deal that may be the one asked about."""

    candidate_deal_id: str
    probability: float
    decision: str = Field(description="`duplicate` from the threshold on, else `distinct`.")
    threshold: float
    reasons: list[ReasonGiven]


class DealAnswer(BaseModel):
    """What was found of one deal of several."""

    deal_id: str
    compared: int = Field(description="Known deals that it was compared with.")
    matches: list[MatchGiven] = Field(description="Those above the floor, the likeliest first.")


class MatchResponse(BaseModel):
    """Of one deal: `deal_id`, `compared` and `matches`; of several: `results`."""

    request_id: str
    model_version: str
    scored_by: str = Field(description="`bundle`, or `endpoint` where Vertex AI answered.")
    deal_id: str | None = None
    compared: int | None = None
    matches: list[MatchGiven] | None = None
    results: list[DealAnswer] | None = None


class VerdictResponse(BaseModel):
    """The label that the verdict became."""

    request_id: str
    deal_id_a: str
    deal_id_b: str
    is_duplicate: bool
    recorded: bool = Field(description="False where the same verdict was there already.")


class PredictResponse(BaseModel):
    """Vertex AI's answer: a prediction for each instance, in their order."""

    predictions: list[dict[str, Any]]


class TriggerResponse(BaseModel):
    """The run that a message started, or had started before."""

    request_id: str
    run: str
    business_date: str
    started: bool = Field(description="False where the run was there already.")


class FieldGiven(BaseModel):
    """A field at fault."""

    field: str
    message: str


class ErrorGiven(BaseModel):
    """What was wrong, and what to do."""

    code: str
    message: str
    fields: list[FieldGiven] | None = None


class ErrorResponse(BaseModel):
    """Every answer other than success."""

    error: ErrorGiven
    request_id: str


def read(model: type[M], body: bytes, *, prefix: str = "") -> M:
    """The request in a body of JSON. Raises Problem (400, 422) that names the fields at fault."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        if error.error_count() > MAX_FAULTS:
            message = f"{prefix or 'the body'}: it has {error.error_count():,} faults."
            raise Problem(422, message) from None
        raise _problem(error.errors(include_url=False), model, prefix) from None


def _problem(errors: Iterable[ErrorDetails], model: type[BaseModel], prefix: str) -> Problem:
    fields = []
    for error in errors:
        if error["type"] == "json_invalid":
            return Problem(400, f"The body is no JSON: {error['ctx']['error']}.")
        # The last of a union's branches, and validators, stand in a location as well.
        names = [str(part) for part in error["loc"] if not _is_inner(str(part))]
        field = ".".join([*([prefix] if prefix else []), *names])
        problem = FieldProblem(field or "the body", _told(error, model))
        if problem not in fields:
            fields.append(problem)
        if len(fields) == MAX_FIELDS:
            break
    first = fields[0]
    least = "at least " if len(fields) == MAX_FIELDS else ""
    more = f" (and {least}{len(fields) - 1} more)" if len(fields) > 1 else ""
    return Problem(422, f"{first.field}: {first.message}.{more}", fields=fields)


def _is_inner(part: str) -> bool:
    return "[" in part or part in ("function-before", "function-after")


def _told(error: ErrorDetails, model: type[BaseModel]) -> str:
    """What the field must be, and what it is."""
    kind, context, given = error["type"], error.get("ctx", {}), error.get("input")
    if kind == "onedeal":
        return str(context["allowed"])
    if kind == "missing":
        return "it is missing"
    if kind == "extra_forbidden":
        names = _fields_at(model, error["loc"])
        return f"there is no such field; there are {', '.join(names)}"
    lengths = {
        "string_too_long": f"it must have at most {context.get('max_length', 0):,} characters",
        "string_too_short": "it must not be empty",
        "too_long": f"it must hold at most {context.get('max_length', 0):,}",
        "too_short": f"it must hold at least {context.get('min_length', 0):,}",
    }
    if kind in lengths:
        size = f", and has {len(given):,}" if isinstance(given, str | list) and given else ""
        return lengths[kind] + size
    allowed = {
        "string_type": "a text",
        "bool_type": "true or false",
        "list_type": "a list",
        "dict_type": "an object",
        "model_type": "an object",
        "decimal_type": "a number",
        "decimal_parsing": "a number",
        "finite_number": "a finite number",
        "float_type": "a number",
        "float_parsing": "a number",
        "int_parsing": "a whole number",
        "literal_error": context.get("expected"),
        "greater_than_equal": f"at least {context.get('ge')}",
        "less_than_equal": f"at most {context.get('le')}",
    }.get(kind)
    if allowed is None and kind.startswith(("datetime", "timezone")):
        allowed = TIME_WORDS
    if allowed is None and kind.startswith("date"):
        allowed = DATE_WORDS
    if allowed is None:
        return str(error["msg"])
    return f"it is {_shown(given)}; it must be {allowed}"


def _fields_at(model: type[BaseModel], location: Iterable[Any]) -> list[str]:
    """The fields of the object that an unknown one stood in."""
    parts = [str(part) for part in location][:-1]
    inner: dict[str, type[BaseModel]] = {"deal": Deal, "deals": Deal, "message": PushMessage}
    for part in reversed(parts):
        if part in inner:
            return list(inner[part].model_fields)
    return list(model.model_fields)


def _shown(value: object) -> str:
    text = json.dumps(value) if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
