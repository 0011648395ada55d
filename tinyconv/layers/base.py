"""What every layer is: parameters, the arrays of its last pass, and two methods.

A layer contains no mathematics. Its forward and backward call one operation of
:mod:`tinyconv.ops` and put the results where a student can look at them.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from math import prod
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from tinyconv import random
from tinyconv.arguments import checked
from tinyconv.backend import Array, device_of, from_numpy, like, namespace, require_floating
from tinyconv.errors import ArgumentError, ShapeError, StateError
from tinyconv.geometry import Padding, plain, spread, spread_pairs
from tinyconv.initializers import initializer
from tinyconv.messages import missing, shown
from tinyconv.ops.checks import check_shape
from tinyconv.ops.ranks import AXES, Over
from tinyconv.parameters import Parameters, ParameterSpec
from tinyconv.registry import Described
from tinyconv.spellings import OTHER_ATTRIBUTES

Shape = tuple[int, ...]
#: One for all spatial axes, or one for each.
Sizes = int | tuple[int, ...]
#: Forward and backward.
Operation = tuple[Callable[..., tuple[Array, Any]], Callable[..., Any]]


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

    def state_values(self) -> dict[str, np.ndarray[Any, Any]]:
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
        # The result is returned from a local name, so that threads may share a network to predict.
        found = self.compute(x, training, step)
        y, saved = self._returned("compute", found, "y and what was saved", x)
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
            ShapeError: dy does not have the shape of y; or ``compute_backward`` of a layer of your
                own returned a gradient of another shape.
            ArgumentError: it returned not one gradient for each parameter.
        """
        if self.x is None or self.y is None:
            raise StateError(f"{type(self).__name__}: backward was called before forward")
        check_shape(f"{type(self).__name__}.backward", tuple(self.y.shape), dy=dy)
        self.dy = dy
        found = self.compute_backward(dy, self._saved)
        what = "dx and a dictionary of gradients"
        dx, grads = self._returned("compute_backward", found, what, self.x)
        check_shape(f"{type(self).__name__}.compute_backward", tuple(self.x.shape), dx=dx)
        self._keep(grads)
        self.dx = dx
        return dx

    def _returned(self, method: str, found: Any, expected: str, x: Array) -> tuple[Array, Any]:
        """Return what a method returned, of somebody's own perhaps: an array, and more."""
        op = f"{type(self).__name__}.{method}"
        if not (isinstance(found, tuple) and len(found) == 2 and hasattr(found[0], "dtype")):
            names = ", ".join(type(each).__name__ for each in found) if type(found) is tuple else ""
            came = f"a tuple ({names})" if names else shown(found)
            raise ArgumentError(f"{op}: {came} was returned, expected {expected}")
        y, rest = found
        if y.dtype != x.dtype:  # there was a float64 of NumPy's among the factors
            xp = namespace(op, x=x, y=y)
            # It is complex where the complex step moves a parameter.
            y = y if xp.isdtype(y.dtype, "complex floating") else xp.astype(y, x.dtype)
        return y, rest

    def _keep(self, grads: dict[str, Array]) -> None:
        """Put gradients where the network has them."""
        if not self.trainable:
            return
        op = f"{type(self).__name__}.compute_backward"
        named = grads if isinstance(grads, dict) else {}
        if named.keys() != self.grads.keys():
            came, expected = list(named), list(self.grads)
            raise ArgumentError(f"{op}: gradients of {came} were returned, expected of {expected}")
        for name, grad in named.items():
            own = self.grads[name]
            check_shape(op, tuple(own.shape), **{name: grad})
            own[...] = grad

    def _bind(
        self,
        path: str,
        seed: int,
        values: dict[str, Array],
        grads: dict[str, Array],
        device: str,
        dtype: str = "float32",
    ) -> None:
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
        self.path, self.seed = path, seed
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
        specs = self.specs(shape)
        dtype, device = str(x.dtype), device_of(x)
        if specs:
            own = Parameters(specs, dtype, device)
            initialize(own, self.seed)
            self._bind(self.path, self.seed, own.values, own.grads, device, dtype)
        else:
            self._bind(self.path, self.seed, {}, {}, device, dtype)
        self.has_place = False


class OneOperation(Layer):
    """What layers share that call one operation, whose options are their arguments."""

    #: The latter gives dx and, of a layer that has such parameters, dw and db.
    operation: Operation
    #: Names of its options, arguments of the layer all; None where all of these are options.
    _options: tuple[str, ...] | None = None
    #: Whether it takes a weight w and a bias b.
    _takes_weights = False

    def _call(self, place: int, *arguments: Any, **options: Any) -> Any:
        """Call the operation: the forward one, place 0, or the backward one, place 1."""
        return self.operation[place](*arguments, **options)

    def output_shape(self, shape: Shape) -> Shape:  # noqa: D102
        return shape_of(lambda x: self._call(0, x, **self.config()), shape)

    def compute(self, x: Array, training: bool, step: int) -> tuple[Array, Any]:  # noqa: D102
        names = self._options
        options = self.config() if names is None else {name: getattr(self, name) for name in names}
        if self._takes_weights:
            options |= {"w": self.params.get("weight"), "b": self.params.get("bias")}
        y, saved = self._call(0, x, **options)
        return y, saved

    def compute_backward(self, dy: Array, saved: Any) -> tuple[Array, dict[str, Array]]:  # noqa: D102
        found = self._call(1, dy, saved)
        dx, *gradients = found if isinstance(found, tuple) else (found,)
        named = zip(("weight", "bias"), gradients, strict=False)
        return dx, {name: gradient for name, gradient in named if gradient is not None}


class OverAxes(OneOperation):
    """What layers share whose operation goes over any number of spatial axes."""

    #: How many.
    _axes: int

    def __init_subclass__(cls, axes: int | None = None) -> None:
        """Say over how many axes a class goes."""
        super().__init_subclass__()
        if axes is not None:
            cls._axes = axes

    def _set_window(
        self, kernel_size: Sizes, stride: Sizes, padding: Padding, dilation: Sizes
    ) -> None:
        """Keep the sizes of a sliding window, one for each axis.

        Raises:
            ShapeError: one is out of range, or there are not as many as axes.
        """
        name, axes = type(self).__name__, self._axes
        self.kernel_size = spread(name, "kernel_size", kernel_size, axes, least=1)
        self.stride = spread(name, "stride", stride, axes, least=1)
        if padding not in ("same", "valid"):
            spread_pairs(name, "padding", padding, axes)
        padding = plain(padding)
        self.padding: Padding = (padding,) * axes if isinstance(padding, int) else padding
        self.dilation = spread(name, "dilation", dilation, axes, least=1)

    @property
    def _window(self) -> tuple[Any, Any, Any, Any]:
        return self.kernel_size, self.stride, self.padding, self.dilation

    def _check_planes(self, shape: Shape, channels: int | None = None) -> None:
        check_input(type(self).__name__, shape, channels, " ".join(("C", *AXES[self._axes])))

    def _call(self, place: int, *arguments: Any, **options: Any) -> Any:
        over = Over.of(self.operation[place].__name__, self._axes)
        return super()._call(place, over, *arguments, **options)


def initialize(parameters: Parameters, seed: int) -> None:
    """Fill parameters with initial values: each one's depend on the seed and its name alone."""
    for name, spec in parameters.specs.items():
        rng = random.generator(random.key(seed, "initialize", name))
        drawn = initializer(spec.initializer)(rng, spec.shape, spec.fan_in, spec.fan_out)
        view = parameters.values[name]
        view[...] = like(view, drawn.astype(str(view.dtype)))


def shape_of(op: Callable[[Array], tuple[Array, Any]], shape: Shape) -> Shape:
    """Return the shape that an operation gives a sample of ``shape``, by asking it.

    It is applied to an empty batch, which costs nothing, so its own checks are the only ones.

    >>> from tinyconv.ops import crop
    >>> shape_of(lambda x: crop(x, 2), (3, 28, 28))
    (3, 24, 24)
    """
    y, _ = op(np.zeros((0, *shape)))
    return tuple(y.shape[1:])


def check_input(op: str, shape: Shape, features: int | None, *layouts: str) -> None:
    """Check the shape of an input, without the batch, against what a layer was made for.

    Args:
        op: the name of the layer.
        shape: of one sample.
        features: length of its first axis; None for any.
        layouts: the axes that it may have, by name; ``...`` stands for any others.

    Raises:
        ShapeError: it has other axes, or the first one another length.

    >>> check_input("BatchNorm1d", (4, 28, 28), 3, "C", "C L")
    Traceback (most recent call last):
    tinyconv.errors.ShapeError: BatchNorm1d: input of shape (4, 28, 28), expected (3,) or (3, L)
    """
    ways = [layout.split() for layout in layouts]
    fits = any(len(axes) == len(shape) or (shape and axes[-1] == "...") for axes in ways)
    if not fits or features not in (None, shape[0]):
        ways = [[str(features or axes[0]), *(axes[1:] or [""])] for axes in ways]
        expected = " or ".join(f"({', '.join(axes).rstrip()})" for axes in ways)
        raise ShapeError(f"{op}: input of shape {shape}, expected {expected}")
