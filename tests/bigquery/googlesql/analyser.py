"""Google's SQL analyser as a check: would BigQuery accept this, against these schemas?"""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message
from zetasql.wasi._pb2.zetasql.local_service import local_service_pb2
from zetasql.wasi._pb2.zetasql.proto import options_pb2, simple_catalog_pb2
from zetasql.wasi._pb2.zetasql.public import function_pb2
from zetasql.wasi._pb2.zetasql.public import options_pb2 as enums

from tests.bigquery.googlesql import effects, ml, rules, service, tree
from tests.bigquery.googlesql.catalogue import (
    SCRIPT,
    Catalogue,
    Effect,
    Model,
    Name,
    Table,
    normalised,
)
from tests.bigquery.googlesql.language import language
from tests.bigquery.googlesql.types import type_name, type_proto

_POSITION = re.compile(r"\s*\[at (\d+):(\d+)\]")
_PREFIX = re.compile(r"^(Code: \d+, Message: |[A-Z_]+: )")
_MISSING = re.compile(r"(Table|Model) not found: ([^;]+)")
# One quoted name that holds a path: `project.dataset.table`.
_READERS = ("TablePathExpression", "UpdateStatement", "DeleteStatement", "MergeStatement")
_DOTTED = re.compile(rb"`[^`\n]+\.[^`\n]+`")
_PLAIN = re.compile(r"[A-Za-z_][\w-]*(\.[A-Za-z_]\w*)*")
_SYSTEM_VARIABLES = {
    "dataset_id": "STRING",
    "dataset_project_id": "STRING",
    "last_job_id": "STRING",
    "location": "STRING",
    "project_id": "STRING",
    "query_label": "STRING",
    "row_count": "INT64",
    "session_id": "STRING",
    "time_zone": "STRING",
}
# Two bytes, as `ml` has, and no dataset's name.
_STAND_INS = [f"_{character}" for character in "0123456789abcdefghijklmnopqrstuvwxyz"]


@dataclass(frozen=True)
class Refusal:
    """Why BigQuery refuses a statement, and where in the text it stands."""

    message: str
    line: int
    column: int
    reason: str = "invalidQuery"

    def __str__(self) -> str:
        return f"{self.message} at [{self.line}:{self.column}]"


@dataclass(frozen=True)
class Statement:
    """An accepted statement. `kind` is BigQuery's statementType."""

    kind: str
    text: str
    columns: tuple[tuple[str, str], ...] = ()
    tables: tuple[Name, ...] = ()
    models: tuple[Name, ...] = ()
    target: Name | None = None
    effects: tuple[Effect, ...] = ()
    resolved: Any = field(default=None, repr=False)


@dataclass
class Result:
    """The accepted statements of a text, up to the first that is refused."""

    statements: list[Statement] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)

    @property
    def effects(self) -> list[Effect]:
        return [effect for statement in self.statements for effect in statement.effects]

    @property
    def kind(self) -> str:
        return self.statements[0].kind if len(self.statements) == 1 else "SCRIPT"


class Analyser:
    """Checks SQL against a catalogue, which it does not change: apply a result's effects to it."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue

    def check(
        self,
        sql: str,
        *,
        parameters: Mapping[str, str] | Iterable[str] = (),
        default_dataset: str | None = None,
    ) -> Result:
        """The verdict on a statement or script; `parameters` are types, by name or position."""
        return Check(self.catalogue.copy(), sql, parameters, default_dataset).run()


class Refused(Exception):
    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal


class Check:
    """The check of one text, against a catalogue of its own that its statements change."""

    def __init__(
        self,
        catalogue: Catalogue,
        sql: str,
        parameters: Mapping[str, str] | Iterable[str],
        default_dataset: str | None,
    ) -> None:
        self.catalogue = catalogue
        self.raw = sql.encode()
        self.default_dataset = default_dataset
        self.options = _options(parameters)
        self.variables: dict[str, str] = {}
        self.result = Result()

    def parsed(self) -> Any:
        """The list of the text's statements."""
        request = local_service_pb2.ParseRequest(
            sql_statement=self.raw.decode(), allow_script=True, options=language()
        )
        response = self.call("Parse", request, local_service_pb2.ParseResponse)
        return response.parsed_script.statement_list_node

    def run(self) -> Result:
        try:
            self._statements(self.parsed())
        except Refused as refused:
            self.result.refusals.append(refused.refusal)
        return self.result

    def _statements(self, node: Any) -> None:
        for wrapped in node.statement_list:
            statement = tree.concrete(wrapped)
            control = getattr(self, f"_{tree.kind(statement)}", None)
            if control is not None:
                control(statement)
            else:
                self._statement(statement)

    # Statements of a script, by the names of GoogleSQL's nodes.

    def _VariableDeclaration(self, node: Any) -> None:  # noqa: N802
        values = tree.fields(node)
        if "type" in values:
            start, end = tree.span(tree.concrete(values["type"]))
            declared = normalised(self.raw[start:end].decode())
        else:
            declared = ""
        if "default_value" in values:
            found = self._expression(values["default_value"])
            declared = declared or found
        for identifier in values["variable_list"].identifier_list:
            self.variables[identifier.id_string] = declared
        self._add(Statement("DECLARE", self._text(node)))

    def _SingleAssignment(self, node: Any) -> None:  # noqa: N802
        self._expression(tree.fields(node)["expression"])
        self._add(Statement("SET", self._text(node)))

    def _SystemVariableAssignment(self, node: Any) -> None:  # noqa: N802
        values = tree.fields(node)
        self._expression(values["system_variable"])
        self._expression(values["expression"])
        self._add(Statement("SET", self._text(node)))

    def _AssignmentFromStruct(self, node: Any) -> None:  # noqa: N802
        self._expression(tree.fields(node)["struct_expression"])
        self._add(Statement("SET", self._text(node)))

    def _control(self, node: Any) -> None:
        """Every branch is taken, for a check of all of them."""
        for name, value in tree.fields(node).items():
            if name == "condition":
                self._expression(value)
            elif isinstance(value, Message):
                inner = tree.concrete(value)
                if tree.kind(inner) == "StatementList":
                    self._statements(inner)
                else:
                    self._control(inner)
            elif not isinstance(value, str | bytes | int | float):
                for item in value:
                    self._control(tree.concrete(item))

    _IfStatement = _WhileStatement = _LoopStatement = _RepeatStatement = _control
    _BeginEndBlock = _control

    def _leave(self, node: Any) -> None:
        """What leaves a loop or the script: nothing to check."""

    _BreakStatement = _ContinueStatement = _ReturnStatement = _RaiseStatement = _leave

    def _statement(self, node: Any) -> None:
        start, end = tree.span(node)
        text, calls, models = self._rewritten(node)
        paths = self.paths(text, start)
        # ALTER's own table is not among them.
        if tree.kind(node).startswith("Alter") and "path" in tree.fields(node):
            paths.append([part.id_string for part in tree.fields(node)["path"].names])
        response = self._analyse(text, start, paths, calls)
        resolved = tree.concrete(response.resolved_statement)
        self._check_inputs(resolved, calls, start)
        try:
            for fault in rules.faults(resolved):
                raise effects.Fault(fault)
            target = effects.target(resolved, self.catalogue, self.default_dataset)
            found = effects.effects(resolved, self.catalogue, self.default_dataset)
        except effects.Fault as error:
            raise Refused(self._refusal(str(error), start, error.reason)) from error
        output = tree.fields(resolved).get("output_column_list", [])
        self._add(
            Statement(
                kind=statement_type(resolved),
                text=self.raw[start:end].decode(),
                columns=tuple((item.name, type_name(item.column.type)) for item in output),
                tables=tuple(self._named_tables(paths)),
                models=tuple(models),
                target=target,
                effects=tuple(found),
                resolved=resolved,
            )
        )

    def _add(self, statement: Statement) -> None:
        self.result.statements.append(statement)
        self.catalogue.apply(statement.effects)

    def _text(self, node: Any) -> str:
        start, end = tree.span(node)
        return self.raw[start:end].decode()

    def _expression(self, wrapped: Any) -> str:
        """The type of an expression, which may hold queries."""
        start, end = tree.span(tree.concrete(wrapped))
        prefix = b"select ("
        text = prefix + self.raw[start:end] + b")"
        try:
            resolved = tree.concrete(
                self._analyse(text, 0, self.paths(text, 0), []).resolved_statement
            )
        except Refused as refused:
            # The expression stands elsewhere in the whole text.
            found = refused.refusal
            column = found.column - len(prefix) - 1 if found.line == 1 else found.column - 1
            lines = text.split(b"\n")[: found.line - 1]
            offset = sum(len(line) + 1 for line in lines) + column
            offset -= len(prefix) if found.line > 1 else 0
            raise Refused(
                self._refusal(found.message, start + max(offset, 0), found.reason)
            ) from None
        (column,) = tree.fields(resolved)["output_column_list"]
        return type_name(column.column.type)

    def _rewritten(self, node: Any) -> tuple[bytes, list[ml.Call], list[Name]]:
        """The text as GoogleSQL takes it, the calls of ML's table functions, the models named."""
        text, calls, models = bytearray(self.raw), list[ml.Call](), list[Name]()
        for reader in tree.walk(node, *_READERS) if _DOTTED.search(self.raw) else ():
            values = tree.fields(reader)
            if (path := values.get("path_expr", values.get("target_path"))) is not None:
                _split(text, tree.concrete(path))
        for function in tree.walk(node, "TVF") if b"model" in self.raw.lower() else ():
            values = tree.fields(function)
            names = values["name"].names
            arguments = [tree.fields(entry) for entry in values.get("argument_entries", [])]
            called = names[-1].id_string.lower()
            if len(names) != 2 or names[0].id_string.lower() != "ml" or called not in ml.FUNCTIONS:
                continue
            if not arguments or "model_clause" not in arguments[0]:
                continue
            name, model, start = self._model(arguments[0]["model_clause"])
            if fault := ml.unsupported(called, model):
                raise Refused(self._refusal(fault, tree.span(function)[0]))
            call = ml.Call(called, _STAND_INS[len(calls)], model, tree.span(function)[0])
            calls.append(call)
            models.append(name)
            at = text.index(
                b"ml" if text[tree.span(names[0])[0]] != 0x4D else b"M", tree.span(names[0])[0]
            )
            text[at : at + 2] = call.catalogue.encode()
            if called in ml.PASSING:
                self._blank_arguments(text, called, values["argument_entries"])
        return bytes(text), calls, models

    def _model(self, clause: Any) -> tuple[Name, Model, int]:
        path = tree.fields(clause)["model_path"]
        start, _ = tree.span(path)
        segments = [segment.id_string for segment in path.names]
        name = self.catalogue.resolve(segments, self.default_dataset)
        if name is None or name not in self.catalogue.models:
            message = f"Not found: Model {name or '.'.join(segments)}"
            raise Refused(self._refusal(message, start, "notFound"))
        return name, self.catalogue.models[name], start

    def _blank_arguments(self, text: bytearray, called: str, entries: Any) -> None:
        """Leaves the input alone: a templated function takes no model, and no optional argument."""
        spans = [tree.span(entry) for entry in entries]
        for entry in entries[2:]:
            value = tree.concrete(tree.fields(entry)["expr"])
            for named in tree.walk(value, "Alias"):
                setting = tree.fields(named)["identifier"].id_string
                if setting.lower() not in ml.PASSING[called]:
                    raise Refused(
                        self._refusal(
                            f"Unsupported setting {setting} of ML.{called.upper()}; "
                            f"it takes {', '.join(ml.PASSING[called])}.",
                            tree.span(named)[0],
                        )
                    )
        if len(spans) > 1:
            _blank(text, spans[0][0], spans[1][0])
            _blank(text, spans[1][1], spans[-1][1])

    def _check_inputs(self, resolved: Any, calls: list[ml.Call], start: int) -> None:
        """ML.PREDICT's input has all the features of the model, with types that fit."""
        by_catalogue = {call.catalogue: call for call in calls if call.function in ml.PASSING}
        for scan in tree.walk(resolved, "TVFScan") if by_catalogue else ():
            values = tree.fields(scan)
            call = by_catalogue.get(values["tvf"].name.split(".")[0])
            if call is None:
                continue
            argument = tree.fields(values["argument_list"][0])
            columns = argument.get("argument_column_list", [])
            types = {column.name: type_name(column.type) for column in columns}
            if faults := ml.input_faults(call.function, call.model, types):
                message = f"Invalid table-valued function ML.{call.function.upper()}: {faults[0]}"
                raise Refused(self._refusal(message, call.start))

    def _analyse(
        self, text: bytes, start: int, paths: list[list[str]], calls: list[ml.Call]
    ) -> local_service_pb2.AnalyzeResponse:
        request = local_service_pb2.AnalyzeRequest(options=self.options)
        request.parse_resume_location.input = text.decode()
        request.parse_resume_location.byte_position = start
        request.simple_catalog.CopyFrom(self.schema(text, paths, calls))
        return self.call("Analyze", request, local_service_pb2.AnalyzeResponse)

    def paths(self, text: bytes, start: int) -> list[list[str]]:
        """The tables that the query or change at this place names, as it writes them."""
        request = local_service_pb2.ExtractTableNamesFromNextStatementRequest(options=language())
        request.parse_resume_location.input = text.decode()
        request.parse_resume_location.byte_position = start
        response = self.call(
            "ExtractTableNamesFromNextStatement",
            request,
            local_service_pb2.ExtractTableNamesFromNextStatementResponse,
        )
        return [list(path.table_name_segment) for path in response.table_name]

    def _named_tables(self, paths: list[list[str]]) -> Iterator[Name]:
        for path in paths:
            name = self.catalogue.resolve(path, self.default_dataset)
            if name is not None and self.catalogue.table(name) is not None:
                yield name

    def schema(
        self, text: bytes, paths: list[list[str]], calls: list[ml.Call]
    ) -> simple_catalog_pb2.SimpleCatalogProto:
        """GoogleSQL's catalogue of what the statement names, by the paths that it writes."""
        root = simple_catalog_pb2.SimpleCatalogProto(name="root")
        root.builtin_function_options.language_options.CopyFrom(language())
        _add_bigquery_functions(root)
        ml.add_scalar_functions(root)
        numbers = itertools.count(1)
        for path in paths:
            name = self.catalogue.resolve(path, self.default_dataset)
            table = self.catalogue.table(name)
            if name is not None and table is not None:
                _add_table(_parent(root, path), path[-1], ".".join(name), table, next(numbers))
        for call in calls:
            ml.add_functions(root, call)
        models = {id(call.model): call for call in calls}
        written = text.decode().lower()
        for name, model in self.catalogue.models.items():
            if id(model) in models or name.name.lower() in written:
                for path in _spellings(name, self.catalogue.project):
                    _add_model(_parent(root, path), path[-1], model, next(numbers))
        for name, function in self.catalogue.functions.items():
            for path in _spellings(name, self.catalogue.project):
                added = _parent(root, path).custom_function.add()
                added.CopyFrom(function.signature)
                added.name_path[:] = path[-1:]
        for variable, type_ in self.variables.items():
            constant = root.constant.add(name_path=[variable])
            constant.type.CopyFrom(type_proto(type_))
            constant.value.SetInParent()
        return root

    def call(self, method: str, request: Message, response_type: Any) -> Any:
        try:
            return service.call(method, request, response_type)
        except service.Crash as crash:
            raise Refused(Refusal(str(crash), 1, 1, "internalError")) from crash
        except service.ServiceError as error:
            raise Refused(refusal_of(str(error))) from error

    def _refusal(self, message: str, start: int, reason: str = "invalidQuery") -> Refusal:
        before = self.raw[:start].decode()
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        return Refusal(message, line, column, reason)


def refusal_of(error: str) -> Refusal:
    """GoogleSQL's error as BigQuery words it."""
    position = _POSITION.search(error)
    line, column = (int(position[1]), int(position[2])) if position else (1, 1)
    message = _PREFIX.sub("", _PREFIX.sub("", _POSITION.sub("", error)))
    message = re.sub(r"\b_[0-9a-z]\.(?=\w+)", "ml.", message).strip()
    reason = "notFound" if _MISSING.match(message) else "invalidQuery"
    return Refusal(message, line, column, reason)


def statement_type(resolved: Any) -> str:
    """BigQuery's statementType of a resolved statement."""
    kind = tree.kind(resolved).removesuffix("Stmt")
    if kind == "Query":
        return "SELECT"
    words = re.sub(r"(?<!^)(?=[A-Z])", "_", kind).upper()
    if kind == "Drop":
        words += "_" + tree.fields(resolved)["object_type"].upper().replace(" ", "_")
    return {
        "BEGIN": "BEGIN_TRANSACTION",
        "COMMIT": "COMMIT_TRANSACTION",
        "TRUNCATE": "TRUNCATE_TABLE",
    }.get(words, words)


def _options(parameters: Mapping[str, str] | Iterable[str]) -> options_pb2.AnalyzerOptionsProto:
    options = options_pb2.AnalyzerOptionsProto()
    options.language_options.CopyFrom(language())
    options.error_message_mode = enums.ERROR_MESSAGE_ONE_LINE
    # BigQuery's. GoogleSQL's own is that of Los Angeles.
    options.default_timezone = "UTC"
    options.create_new_column_for_each_projected_output = True
    options.prune_unused_columns = True
    for name, type_ in _SYSTEM_VARIABLES.items():
        variable = options.system_variables.add(name_path=[name])
        variable.type.CopyFrom(type_proto(type_))
    if isinstance(parameters, Mapping):
        options.parameter_mode = enums.PARAMETER_NAMED
        for name, type_ in parameters.items():
            options.query_parameters.add(name=name).type.CopyFrom(type_proto(type_))
    elif positional := list(parameters):
        options.parameter_mode = enums.PARAMETER_POSITIONAL
        options.positional_query_parameters.extend(type_proto(type_) for type_ in positional)
    return options


def _split(text: bytearray, path: Any) -> None:
    """Writes `p.d.t` as p.d.t, so that `t` names its columns, as it does in BigQuery."""
    segments = [segment.id_string for segment in path.names]
    joined = ".".join(segments)
    start, end = tree.span(path)
    if any("." in segment for segment in segments) and _PLAIN.fullmatch(joined):
        text[start:end] = joined.encode().ljust(end - start)


def _blank(text: bytearray, start: int, end: int) -> None:
    text[start:end] = re.sub(rb"[^\n]", b" ", text[start:end])


def _parent(
    root: simple_catalog_pb2.SimpleCatalogProto, path: list[str]
) -> simple_catalog_pb2.SimpleCatalogProto:
    """The catalogue that holds the path's last segment, made where it is missing."""
    parent = root
    for segment in path[:-1]:
        known = [child for child in parent.catalog if child.name == segment]
        parent = known[0] if known else parent.catalog.add(name=segment)
    return parent


def _spellings(name: Name, project: str) -> Iterator[list[str]]:
    """The paths that mean a name."""
    if name.dataset == SCRIPT:
        yield [name.name]
    yield [*name]
    yield [".".join(name)]
    if name.project == project:
        yield [name.dataset, name.name]
        yield [f"{name.dataset}.{name.name}"]


def _add_table(
    parent: simple_catalog_pb2.SimpleCatalogProto,
    name: str,
    full_name: str,
    table: Table,
    number: int,
) -> None:
    added = parent.table.add(
        name=name, name_in_catalog=name, full_name=full_name, serialization_id=number
    )
    for column, type_ in table.columns.items():
        added.column.add(name=column).type.CopyFrom(type_proto(type_))


def _add_model(
    parent: simple_catalog_pb2.SimpleCatalogProto, name: str, model: Model, number: int
) -> None:
    added = parent.model.add(name=name, id=number)
    for column, type_ in model.features.items():
        added.input.add(name=column).type.CopyFrom(type_proto(type_))
    added.output.add(name=f"predicted_{model.label}").type.CopyFrom(type_proto(model.label_type))


def _add_bigquery_functions(root: simple_catalog_pb2.SimpleCatalogProto) -> None:
    """Functions of BigQuery that GoogleSQL itself does not have."""
    kinds = function_pb2.FunctionEnums
    for name, arguments, result, mode in (
        ("contains_substr", ["STRING", "STRING"], "BOOL", kinds.SCALAR),
        ("max_by", [1, 2], 1, kinds.AGGREGATE),
        ("min_by", [1, 2], 1, kinds.AGGREGATE),
        # What options of CREATE MODEL take instead of a value.
        ("hparam_range", ["FLOAT64", "FLOAT64"], "FLOAT64", kinds.SCALAR),
        ("hparam_candidates", ["ARRAY<FLOAT64>"], "FLOAT64", kinds.SCALAR),
        ("search", ["STRING", "STRING"], "BOOL", kinds.SCALAR),
        ("text_analyze", ["STRING"], "ARRAY<STRING>", kinds.SCALAR),
    ):
        function = root.custom_function.add(name_path=[name], group="BigQuery", mode=mode)
        signature = function.signature.add()
        _set_argument(signature.return_type, result)
        for type_ in arguments:
            _set_argument(signature.argument.add(), type_)


def _set_argument(argument: Any, type_: str | int) -> None:
    kinds = function_pb2
    argument.num_occurrences = 1
    argument.options.cardinality = kinds.FunctionEnums.REQUIRED
    if isinstance(type_, int):
        argument.kind = (kinds.ARG_TYPE_ANY_1, kinds.ARG_TYPE_ANY_2)[type_ - 1]
    else:
        argument.kind = kinds.ARG_TYPE_FIXED
        argument.type.CopyFrom(type_proto(type_))
