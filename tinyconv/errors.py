"""The exceptions of the library. Each is also the built-in exception that a caller would expect.

The text of an error says which operation, which argument, what came and what was expected:
``conv2d: w has shape (20, 3, 5, 5), expected (O, 1, KH, KW) because x has 1 channel``.
"""

__all__ = [
    "ArgumentError",
    "DataError",
    "DeviceError",
    "DtypeError",
    "FileError",
    "NonFiniteError",
    "ShapeError",
    "StateError",
]


#: What it leads to where the content of a file is taken for what it is not.
DAMAGED = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)


class ArgumentError(ValueError):
    """An argument is out of its range, unknown, or does not go with another one."""


class ShapeError(ArgumentError):
    """The shape of an array, or a size, does not fit the operation."""


class DtypeError(TypeError):
    """The elements of an array have a type that the operation does not take."""


class DeviceError(TypeError):
    """Arrays of different libraries or devices were mixed, or a device is not there."""


class DataError(ValueError):
    """A data file is missing, truncated, oversized, mislabelled or foreign."""


class FileError(ValueError):
    """A saved network or checkpoint is corrupt, foreign or of an unknown version."""


class StateError(RuntimeError):
    """A method was called before what it needs: ``backward`` before ``forward``, say."""


class NonFiniteError(ArithmeticError):
    """A loss, an activation or a parameter became infinite or NaN.

    Attributes:
        step: number of the training step that was refused, if it was one.
    """

    step: int | None = None
