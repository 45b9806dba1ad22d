"""The exceptions of this package.

BqmlError (a ValueError)
├── OptionError         an option of CREATE MODEL that is unknown, unusable here, or out of range
├── TrainingDataError   rows that nothing can be learned from: none, one class, infinite values, ...
├── InputError          rows to predict, explain or evaluate that do not fit the model
└── ModelFormatError    text that is not a model of this package, or one of another version

DuckDB shows an exception raised inside one of its functions whole, with its class name in front.
"""


class BqmlError(ValueError):
    """Anything this package refuses; the message says what to do."""


class OptionError(BqmlError):
    """An option of CREATE MODEL that is unknown, has no meaning on DuckDB, or is out of range."""


class TrainingDataError(BqmlError):
    """Training rows that nothing can be learned from."""


class InputError(BqmlError):
    """Rows to predict, explain or evaluate that do not fit the model."""


class ModelFormatError(BqmlError):
    """Text that is not a model of this package, or one that another version wrote."""
