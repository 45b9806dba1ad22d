"""GoogleSQL as BigQuery has it: which of its features are on."""

import functools

from zetasql.wasi._pb2.zetasql.local_service import local_service_pb2
from zetasql.wasi._pb2.zetasql.proto import options_pb2 as language_pb2
from zetasql.wasi._pb2.zetasql.public import options_pb2

from tests.bigquery.googlesql import service

# In GoogleSQL, but not in BigQuery (or not for everybody): left on, they would pass SQL that fails.
_NOT_IN_BIGQUERY = """
    ADDITIONAL_DATE_TIME_FUNCTIONS AGGREGATE_FILTERING ALIASES_FOR_STRING_AND_DATE_FUNCTIONS
    ALLOW_SLASH_PATHS ARRAY_AGGREGATION_FUNCTIONS ARRAY_FIND_FUNCTIONS ARRAY_GREATEST_LEAST
    ARRAY_ORDERING ARRAY_ZIP BITWISE_AGGREGATE_BYTES_SIGNATURES CAST_DIFFERENT_ARRAY_TYPES
    CHAINED_FUNCTION_CALLS CHECK_CONSTRAINT DISABLE_ARRAY_MIN_AND_MAX DISABLE_ARRAY_SUM_AND_AVG
    DISABLE_OUTER_JOIN_ARRAY DISALLOW_GROUP_BY_FLOAT DISALLOW_NULL_PRIMARY_KEYS
    DISALLOW_PRIMARY_KEY_UPDATES DML_RETURNING ENABLE_MEASURES ENFORCE_CONDITIONAL_EVALUATION
    EXPERIMENTAL_MODULES FIRST_AND_LAST_N FOR_UPDATE GENERATED_COLUMNS IDENTITY_COLUMNS
    IMPLICIT_COERCION_STRING_LITERAL_TO_BYTES INLINE_LAMBDA_ARGUMENT INSERT_ON_CONFLICT_CLAUSE
    JSON_TYPE_COMPARISON LATERAL_COLUMN_REFERENCES LATERAL_JOIN LIMIT_OFFSET_EXPRESSIONS
    LITERAL_CONCATENATION MAP_TYPE MULTIWAY_UNNEST NESTED_UPDATE_DELETE_WITH_OFFSET
    NULLIFZERO_ZEROIFNULL ROW_TYPE RUN_STATEMENT STRATIFIED_RESERVOIR_TABLESAMPLE
    STRICT_FUNCTION_DEFAULT_ARG_TYPE_COERCION STRUCT_BRACED_CONSTRUCTORS
    STRUCT_POSITIONAL_ACCESSOR TIMESTAMP_NANOS TIMESTAMP_PICOS UNNEST_AND_FLATTEN_ARRAYS
    UPDATE_CONSTRUCTOR UUID_TYPE WITH_EXPRESSION WITH_GROUP_ROWS WITH_RECURSIVE_DEPTH_MODIFIER
""".split()
# In BigQuery, and not among the features that GoogleSQL calls ready.
_ALSO_IN_BIGQUERY = ["CREATE_SNAPSHOT_TABLE", "CREATE_TABLE_CLONE", "CREATE_TABLE_COPY"]


@functools.cache
def language() -> language_pb2.LanguageOptionsProto:
    options = service.call(
        "GetLanguageOptions",
        local_service_pb2.LanguageOptionsRequest(maximum_features=True),
        language_pb2.LanguageOptionsProto,
    )
    known = options_pb2.LanguageFeature.keys()
    names = [f"FEATURE_{name}" for name in _NOT_IN_BIGQUERY]
    off = {options_pb2.LanguageFeature.Value(name) for name in names if name in known}
    on = {options_pb2.LanguageFeature.Value(f"FEATURE_{name}") for name in _ALSO_IN_BIGQUERY}
    features = sorted((set(options.enabled_language_features) | on) - off)
    del options.enabled_language_features[:]
    options.enabled_language_features.extend(features)
    # No kind named: every kind of statement.
    del options.supported_statement_kinds[:]
    options.product_mode = options_pb2.PRODUCT_EXTERNAL
    options.reserved_keywords.append("QUALIFY")
    return options
