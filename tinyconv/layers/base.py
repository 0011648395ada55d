"""What every layer is: parameters, the arrays of its last pass, and two methods.

A layer contains no mathematics. Its forward and backward call one operation of
:mod:`tinyconv.ops` and put the results where a student can look at them.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from tinyconv import random
from tinyconv.arguments import checked
from tinyconv.backend import Array, Values, device_of, from_numpy, like, namespace, require_floating
from tinyconv.errors import ArgumentError, StateError
from tinyconv.initializers import initializer
from tinyconv.messages import missing, shown
from tinyconv.ops.checks import check_shape, incoming
from tinyconv.parameters import Parameters, ParameterSpec
from tinyconv.registry import Described
from tinyconv.spellings import OTHER_ATTRIBUTES

Shape = tuple[int, ...]


class Place(NamedTuple):
    """Where a layer stands in a network, and what its arrays are."""

    path: str
    seed: int
    dtype: str = "float32"
    device: str = "cpu"


class Layer(Described, ABC):
    """The base of all layers, also of your own: override ``compute`` and ``compute_backward``.

    A layer with parameters also overrides :meth:`specs`, one that changes shapes
    :meth:`output_shape`, and one with an ``__init__`` keeps its arguments in attributes of their
    names. With :func:`tinyconv.register` files may name it.

    Constructors raise an ArgumentError for an argument that is not what its annotation says or that
    does not go with another one; sizes are at least 1, paddings at least 0.

    Attributes:
        params: name -> parameter, a view into the network's flat array.
        grads: name -> its gradient of the last backward pass.
        state: name -> array that is saved but not trained (running statistics).
        x: input of the last forward pass.
        y: its output.
        dy: gradient that came into the last backward pass.
        dx: gradient that went out.
        trainable: whether its parameters are trained. Set it to False, before or between runs, to
            freeze them: they stay as they are, have no gradients, and optimizers remember nothing
            for them; a batch norm then normalises by its running statistics and leaves them. A
            container hands it on to the layers inside. Saved with the network.
        has_place: whether it is part of a network.
        path: place in the network, ``"3"`` for the fourth layer of a ``Sequential``.
        seed: seed of the network; with ``path`` and the step it fixes a dropout mask.
        first_sample: place of the first sample of ``x`` in the batch, above 0 where ranks share it.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Make what every layer has, so that a constructor need not call the one here."""
        self = super().__new__(cls)
        self._begin()
        return self

    def _begin(self) -> None:
        self.params: dict[str, Array] = {}
        self.grads: dict[str, Array] = {}
        self.state: dict[str, Array] = {}
        self.x: Array | None = None
        self.y: Array | None = None
        self.dy: Array | None = None
        self.dx: Array | None = None
        self.path = ""
        self.seed = 0
        self.first_sample = 0
        self.is_bound = False
        self.has_place = False
        self._trainable = True
        self._saved: Any = None

    @checked
    def __init__(self) -> None:
        """Take no arguments, unless a layer has some of its own."""
        super().__init__()

    @property
    def trainable(self) -> bool:
        """Whether its parameters are trained."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        if not isinstance(value, bool | np.bool_):
            name = type(self).__name__
            raise ArgumentError(f"{name}: trainable is {value!r}, expected True or False")
        self._trainable = bool(value)

    if not TYPE_CHECKING:  # for a type checker, an attribute that is not there is not there

        def __getattr__(self, name):
            """Say where an attribute is that a layer of another library has."""
            raise AttributeError(missing(type(self).__name__, name, OTHER_ATTRIBUTES, ()))

        #: To set it would do nothing, where another library freezes a layer by it.
        requires_grad = property(fset=lambda self, value: self.__getattr__("requires_grad"))

    # What a kind of layer says about itself.

    def output_shape(self, shape: Shape) -> Shape:
        """Return the shape of the output for an input of ``shape``, both without the batch.

        The same one, unless overridden.

        Raises:
            ShapeError: the layer does not take such an input.
        """
        return shape

    def specs(self, shape: Shape | None) -> dict[str, ParameterSpec] | None:
        """Return what parameters the layer has by name, for inputs of ``shape``.

        They are in ``params`` when :meth:`compute` runs.

        Args:
            shape: of an input, without the batch; None while it is not known.

        Returns:
            Name -> :class:`ParameterSpec`; None if that depends on a shape not yet known.
        """
        return {}

    def state_values(self) -> dict[str, Values]:
        """Return the initial values of ``state``, once the parameters are known."""
        return {}

    def multiply_adds(self, shape: Shape) -> int:
        """Return the multiplications with a weight in one forward pass of one sample."""
        return 0

    @abstractmethod
    def compute(self, x: Array, training: bool, step: int) -> tuple[Array, Any]:
        """Return y (N, ...) and whatever :meth:`compute_backward` needs.

        Args:
            x: (N, ...), of the dtype and device of the parameters; it stays as it is.
            training: whether dropout drops and statistics are updated.
            step: number of the training step, which selects random numbers.
        """

    @abstractmethod
    def compute_backward(self, dy: Array, saved: Any) -> tuple[Array, dict[str, Array]]:
        """Return dx, of the shape of x, and the gradient of each parameter by its name.

        Args:
            dy: (N, ...), of the shape of y; it stays as it is.
            saved: what :meth:`compute` returned beside y.
        """

    # What all layers share.

    def forward(self, x: Array, training: bool = False, step: int = 0) -> Array:
        """Map a batch and keep ``x`` and ``y``.

        Args:
            x: (N, ...), of the dtype and device of the parameters.
            training: whether dropout drops and statistics are updated.
            step: number of the training step, which selects the dropout mask.

        Returns:
            y (N, ...).

        Raises:
            ShapeError: x does not fit the layer.
            ArgumentError: ``compute`` of a layer of your own returned something else.
        """
        if not self.is_bound:
            self._bind_alone(x)
        op = f"{type(self).__name__}.compute"
        found = self.compute(x, training, step)
        # The result is returned from a local name, so that threads may share a network to predict.
        y, saved = array_and_more(op, found, "y and what was saved", x)
        self.x, self.y, self._saved = x, y, saved
        return y

    def __call__(self, x: Array, training: bool = False, step: int = 0) -> Array:
        """Do what :meth:`forward` does."""
        return self.forward(x, training, step)

    def backward(self, dy: Array) -> Array:
        """Send a gradient back through the last forward pass; fill ``grads`` and ``dx``.

        Args:
            dy: (N, ...), of the shape of ``y``.

        Returns:
            dx, of the shape of ``x``.

        Raises:
            StateError: there was no forward pass.
            DeviceError: dy is no array, or not of the library of y.
            ShapeError: dy does not have the shape of y; or ``compute_backward`` of a layer of your
                own returned a gradient of another shape.
            ArgumentError: it returned not one gradient for each parameter.
        """
        if self.x is None or self.y is None:
            raise StateError(f"{type(self).__name__}: backward was called before forward")
        incoming(f"{type(self).__name__}.backward", dy, y=self.y)
        self.dy = dy
        op = f"{type(self).__name__}.compute_backward"
        found = self.compute_backward(dy, self._saved)
        dx, grads = array_and_more(op, found, "dx and a dictionary of gradients", self.x)
        check_shape(op, tuple(self.x.shape), dx=dx)
        self._keep(op, grads)
        self.dx = dx
        return dx

    def _keep(self, op: str, grads: Any) -> None:
        """Put gradients where the network has them."""
        if self.trainable:
            copy_gradients(op, grads, self.grads)

    def _bind(self, place: Place, values: dict[str, Array], grads: dict[str, Array]) -> None:
        """Take views of the network's parameters and gradients, which :meth:`specs` asked for.

        Raises:
            StateError: the layer has parameters already, or is part of another network.
        """
        if self.params or self.has_place:
            what = "has parameters" if self.params else "has its place"
            raise StateError(
                f"{type(self).__name__}: the layer {what} already, of another network or its own; "
                "make a new one"
            )
        self.path, self.seed, dtype, device = place
        self.params, self.grads = values, grads
        self.state = {
            name: from_numpy(value.astype(dtype) if value.dtype.kind == "f" else value, device)
            for name, value in self.state_values().items()
        }
        self.is_bound = self.has_place = True

    def unbind(self) -> None:
        """Let go of the network's arrays, so that they can be taken anew."""
        self.params, self.grads = {}, {}
        self.is_bound = self.has_place = False

    def walk(self) -> Iterator["Layer"]:
        """Yield the layers that this one consists of: itself, unless it is a container."""
        yield self

    def parameter_count(self, shape: Shape | None = None) -> int | None:
        """Return the number of parameters; None if that depends on a shape not yet known."""
        # Asking fixes the sizes of a layer that takes them from its input: so a copy is asked.
        asked = self if self.is_bound else copy.deepcopy(self)
        specs = asked.specs(shape)
        return None if specs is None else sum(prod(spec.shape) for spec in specs.values())

    def _size(self, argument: str, shape: Shape | None) -> int | None:
        """Return a size; the first axis of the first input, if it was left to that."""
        if getattr(self, argument) is None and shape is not None:
            setattr(self, argument, shape[0])
        size: int | None = getattr(self, argument)
        return size

    def _bind_alone(self, x: Array) -> None:
        """Give the layer parameters of its own: it is used outside a network."""
        name = type(self).__name__
        require_floating(name, namespace(name, x=x), x=x)
        shape = tuple(x.shape[1:])
        self.output_shape(shape)  # raises before a size that is wrong is taken over
        place = Place(self.path, self.seed, str(x.dtype), device_of(x))
        specs = self.specs(shape)
        own = new_parameters(specs, place) if specs else None
        self._bind(place, own.values if own else {}, own.grads if own else {})
        self.has_place = False


def new_parameters(specs: Mapping[str, ParameterSpec], place: Place) -> Parameters:
    """Return parameters with initial values: each one's depend on the seed and its name alone."""
    own = Parameters(specs, place.dtype, place.device)
    for name, spec in specs.items():
        rng = random.generator(random.key(place.seed, "initialize", name))
        drawn = initializer(spec.initializer)(rng, spec.shape, spec.fan_in, spec.fan_out)
        own.values[name][...] = like(own.values[name], drawn.astype(place.dtype))
    return own


def array_and_more(op: str, found: Any, expected: str, x: Array) -> tuple[Array, Any]:
    """Return the array, in the dtype of x, and what came beside it.

    Raises:
        ArgumentError: no pair came that begins with an array.

    >>> import numpy as np
    >>> array_and_more("Mine.compute", None, "y and what was saved", np.zeros(2))
    Traceback (most recent call last):
    tinyconv.errors.ArgumentError: Mine.compute: None was returned, expected y and what was saved
    """
    if not (isinstance(found, tuple) and len(found) == 2 and hasattr(found[0], "dtype")):
        names = ", ".join(type(each).__name__ for each in found) if type(found) is tuple else ""
        came = f"a tuple ({names})" if names else shown(found)
        raise ArgumentError(f"{op}: {came} was returned, expected {expected}")
    y, more = found
    if y.dtype != x.dtype:  # there was a float64 of NumPy's among the factors
        xp = namespace(op, x=x, y=y)
        # It is complex where the complex step moves a parameter.
        y = y if xp.isdtype(y.dtype, "complex floating") else xp.astype(y, x.dtype)
    return y, more


def copy_gradients(op: str, found: Any, into: dict[str, Array]) -> None:
    """Copy gradients to where the network has them.

    Raises:
        ArgumentError: there is not one for each name.
        ShapeError: one has another shape.
    """
    named = found if isinstance(found, dict) else {}
    if named.keys() != into.keys():
        came, expected = list(named), list(into)
        raise ArgumentError(f"{op}: gradients of {came} were returned, expected of {expected}")
    for name, grad in named.items():
        check_shape(op, tuple(into[name].shape), **{name: grad})
        into[name][...] = grad
