"""What a network is before it is trained: layers with parameters of its own, and its files."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from tinyconv import files
from tinyconv.arguments import FilePath, checked
from tinyconv.backend import Array, Values, check_device, like, to_numpy
from tinyconv.data.report import Pixels
from tinyconv.engines.base import Engine
from tinyconv.errors import ArgumentError, DtypeError, FileError, ShapeError, StateError
from tinyconv.geometry import sample_shape
from tinyconv.layers import Chain, Layer, Place, decode, encode, new_parameters
from tinyconv.layers.base import Shape
from tinyconv.layers.container import HEAD, summary_rows
from tinyconv.layers.snapshot import Snapshot, descendants
from tinyconv.losses import LOSSES, CrossEntropyLoss, Loss
from tinyconv.losses.checks import mended_shape
from tinyconv.messages import missing, shown
from tinyconv.optimizers import SGD, Optimizer
from tinyconv.parameters import Parameters
from tinyconv.spellings import OTHER_METHODS
from tinyconv.tables import html_table, text_table
from tinyconv.training.callbacks import Position
from tinyconv.training.checks import check_input, require_array


class Network(Chain):
    """Layers that share flat parameters, and what is saved with them.

    The part of :class:`tinyconv.Sequential` that neither trains nor predicts; see there for the
    arguments, the attributes and the errors.
    """

    is_network = True

    @checked
    def __init__(
        self,
        layers: Sequence[Layer] | Layer,
        *more: Layer,
        seed: int = 0,
        dtype: Any = "float32",
        device: Any = "cpu",
        input_shape: Sequence[int] | None = None,
    ) -> None:
        super().__init__(layers, *more)
        if any(isinstance(layer, Network) for layer in self.layers):
            raise ArgumentError(
                "Sequential: a layer is a Sequential, which owns its parameters; "
                "expected its layers, or a tinyconv.layers.Chain of them"
            )
        self.dtype = getattr(dtype, "__name__", str(dtype))  # np.float32 is a class
        if self.dtype not in ("float32", "float64"):
            raise DtypeError(
                f"Sequential: dtype is {shown(dtype)}, expected 'float32' or 'float64'"
            )
        self.seed = seed
        self.device = check_device(device)
        self.input_shape: Shape | None = None
        self._loss: Loss = CrossEntropyLoss()
        self.position = Position()
        self.class_names: Sequence[str] | None = None
        self.pixels: Pixels | None = None
        self._parameters: Parameters | None = None
        self._snapshot: Snapshot | None = None
        self.version = 0
        self._trainer: int | None = None  # the process that trains it; a forked one does not
        self._stepper: Engine | None = None
        #: The optimizer of the last run and what it remembers.
        self._rule: tuple[Optimizer, dict[str, Array] | None] = (SGD(lr=0.1), None)
        if input_shape is not None:
            self.build(input_shape)
        elif self.specs(None) is not None:
            self._make_parameters(None)

    if not TYPE_CHECKING:  # for a type checker, a method that is not there is not there

        def __getattr__(self, name):
            """Say what a method that a network does not have is called here."""
            raise AttributeError(missing("Sequential", name, OTHER_METHODS, dir(type(self))))

    @property
    def loss(self) -> Loss:
        """What the network was trained to minimise; a name may be set too."""
        return self._loss

    @loss.setter
    def loss(self, loss: Loss | str) -> None:
        self._loss = LOSSES.of("Sequential", loss)

    def build(self, input_shape: Sequence[int]) -> None:
        """Check every layer against samples of this shape, and make the parameters.

        Raises:
            ShapeError: a layer does not fit; the text names its place.
        """
        shape = sample_shape("Sequential", input_shape)
        self.check_layers()
        self.output_shape(shape)
        self.input_shape = shape
        if self._parameters is None:
            self._make_parameters(shape)

    def _make_parameters(self, input_shape: Shape | None) -> None:
        specs = self.specs(input_shape)
        assert specs is not None
        place = Place("", self.seed, self.dtype, self.device)
        own = new_parameters(specs, place)
        if self._parameters is not None and self._parameters.specs != own.specs:
            self._rule = self._rule[0], None  # what it remembers is of other parameters
        self._bind(place, own.values, own.grads)
        self._parameters = own
        self._bound = {
            layer: (dict(layer.params), dict(layer.state)) for layer in descendants(self)
        }
        self._snapshot = Snapshot(self)

    def refresh(self) -> int:
        """Take in layers, options and arrays of parameters that were replaced since the last call.

        Every method that uses the layers calls it, so nobody else has to. A new layer gets
        initial values; a new array is copied to where the network keeps its parameters.

        Returns:
            How many times something had been replaced.

        Raises:
            ShapeError: a layer does not fit its place, or an array its layer.
            StateError: a layer has parameters of its own or of another network.

        >>> import numpy as np
        >>> import tinyconv as tc
        >>> net = tc.Sequential([tc.Linear(2, 3), tc.Sigmoid()], seed=0)
        >>> net.layers[0].params["bias"] = np.ones(3)
        >>> net.layers[1] = tc.ReLU()
        >>> net.refresh(), net.refresh(), net.state_dict()["0.bias"]
        (1, 1, array([1., 1., 1.], dtype=float32))
        """
        if self._snapshot is not None and not self._snapshot.holds():
            self._take_in()
            self._snapshot = Snapshot(self)
            self.version += 1
        return self.version

    def _take_in(self) -> None:
        """Make the parameters anew, with the values that the layers have, if any are others."""
        self.check_layers()
        if self.input_shape is not None:
            self.output_shape(self.input_shape)
        for layer in descendants(self):
            if layer not in self._bound and (layer.params or layer.has_place):
                raise StateError(
                    f"Sequential: {type(layer).__name__}, which took a place in the network, was "
                    "used before; expected a new layer"
                )
        specs = self.specs(self.input_shape) or {}
        trained = [name for name, spec in specs.items() if spec.trainable]
        if (
            list(self._bound) == list(descendants(self))
            and trained == list(self.parameters.grads)
            and all(
                before[name] is now[name]
                for layer, kept in self._bound.items()
                for before, now in zip(kept, (layer.params, layer.state), strict=True)
                for name in before
            )
        ):
            return
        held = [(layer, layer.params, layer.state) for layer in self.walk() if layer in self._bound]
        for layer, params, _ in held:
            for name, spec in (layer.specs(None) or {}).items():
                if name in params and tuple(params[name].shape) != spec.shape:
                    raise ShapeError(
                        f"Sequential: {name} of layer {layer.path} ({type(layer).__name__}) has "
                        f"shape {tuple(params[name].shape)}, expected {spec.shape}"
                    )
        for layer in (self, *self._bound):
            layer.unbind()
        self._make_parameters(self.input_shape)
        for layer, params, state in held:
            for into, values in ((layer.params, params), (layer.state, state)):
                for name in into.keys() & values.keys():
                    into[name][...] = like(
                        into[name], to_numpy(values[name]).astype(str(into[name].dtype))
                    )

    @property
    def parameters(self) -> Parameters:
        """All parameters and gradients.

        Raises:
            StateError: the input shape is not known yet.
        """
        if self._parameters is None:
            raise StateError(
                "Sequential: the parameters do not exist yet, because a layer takes its input "
                "size from the first batch; pass input_shape= or call build()"
            )
        return self._parameters

    # One pass.

    @checked
    def forward(self, x: Array, training: bool = False, step: int = 0) -> Array:
        """Return the logits of a batch, (N, K); every layer keeps its ``x`` and ``y``.

        Arguments and errors are those of :meth:`tinyconv.layers.Layer.forward`.
        """
        self._accept(x)
        return super().forward(x, training, step)

    # Files.

    @checked
    def state_dict(self) -> dict[str, Values]:
        """Return copies of all parameters and running statistics under PyTorch's names."""
        return {name: np.array(to_numpy(array)) for name, array in self._tensors().items()}

    @checked
    def load_state_dict(
        self, tensors: Mapping[str, Any] | str | Path, strict: bool = True
    ) -> tuple[list[str], list[str]]:
        """Set all parameters from arrays under PyTorch's names, PyTorch's own or CuPy's included.

        Args:
            tensors: by name, arrays of any library, or the path of a safetensors file of anybody's;
                float16 and bfloat16 are converted.
            strict: whether a name that is missing or unknown is an error; else what is there is
                taken, and shapes must fit still.

        Returns:
            The names that are missing and those that are unknown.

        Raises:
            FileError: what is missing, unknown or of another shape, all at once; or the file
                cannot be read.
        """
        source = "load_state_dict"
        if isinstance(tensors, str | Path):
            source, tensors = str(tensors), files.read_weights(tensors)
        if not isinstance(tensors, Mapping):
            raise ArgumentError(
                f"load_state_dict: tensors is {shown(tensors)}, expected names and arrays, such as "
                "what state_dict() returns, or the path of a safetensors file"
            )
        arrays = {str(name): files.array_of(array) for name, array in tensors.items()}
        return files.copy_tensors(source, arrays, self._tensors(), strict=strict)

    @checked
    def save(self, path: Annotated[str | Path, FilePath()]) -> None:
        """Write architecture and weights to a safetensors file; ``tc.load`` reads it.

        The file appears whole or not at all.
        """
        names = self.class_names
        is_list = isinstance(names, Sequence) and not isinstance(names, str)
        if names is not None and not (is_list and all(isinstance(name, str) for name in names)):
            raise ArgumentError(f"save: class_names is {shown(names)}, expected a list of texts")
        about = {
            "format": "network",
            **self._about(),
            "loss": LOSSES.name_of(self.loss),
            "loss_config": encode(self.loss.config(), of=type(self.loss).__name__),
            "epochs": self.position.epoch,
            "steps": self.position.step,
            "class_names": None if names is None else list(names),
            "pixels": self.pixels and asdict(self.pixels),
        }
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise FileError(f"{path}: its folder is a file") from None
        files.write_tensors(path, self._tensors(), about)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle and copy what ``save`` writes: copies of views would be views of nothing.

        And what the optimizer remembers, so that a copy trains on as the network itself would.
        """
        return {
            "layers": encode(self.layers, by_class=True),
            "about": {"input_shape": self.input_shape, "seed": self.seed, "dtype": self.dtype},
            "device": self.device,
            "trained": self._trained(),
            "tensors": {} if self._parameters is None else self.state_dict(),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        layers = decode(state["layers"], by_class=True)
        Network.__init__(self, layers, device=state["device"], **state["about"])
        self.__dict__.update(state["trained"])
        if state["tensors"]:
            self.load_state_dict(state["tensors"])

    def _trained(self) -> dict[str, Any]:
        """Return what training leaves behind beside the tensors, by attribute."""
        return {
            "_loss": self.loss,
            "position": replace(self.position),
            "class_names": self.class_names,
            "pixels": self.pixels,
            "_rule": (self._rule[0], deepcopy(self._rule[1])),
        }

    def _become(self, copy: "Network") -> None:
        """Take over what training has made of a copy."""
        if self.input_shape is None and copy.input_shape is not None:
            self.build(copy.input_shape)
        self.load_state_dict(copy.state_dict())
        self.__dict__.update(copy._trained())

    def _tensors(self) -> dict[str, Array]:
        self.refresh()
        return {**self.parameters.values, **self.state}

    def _about(self) -> dict[str, Any]:
        """Describe the network so that JSON can hold it."""
        return {
            "layers": encode(self.layers),
            "input_shape": self.input_shape,
            "seed": self.seed,
            "dtype": self.dtype,
        }

    # Checks and looks.

    @contextmanager
    def _trained_by_one(self) -> Iterator[None]:
        """Keep other threads from training the network at the same time."""
        if self._trainer == os.getpid():
            raise StateError("fit: the network is being trained already, by another fit")
        self._trainer = os.getpid()
        try:
            yield
        finally:
            self._trainer = None

    def _accept(self, x: Array, op: str = "Sequential") -> None:
        """Build on the first batch; check the shape and the kind of every batch."""
        require_array(op, x)
        if self.input_shape is None:
            check_input(op, x, tuple(x.shape[1:]))
            try:
                self.build(tuple(x.shape[1:]))
            except ShapeError as error:
                raise ShapeError(f"{error}{self._mended(tuple(x.shape[1:]))}") from None
        self.refresh()
        shape, came = self.input_shape or (), tuple(x.shape[1:])
        check_input(op, x, came if came != shape and self._takes(came) else shape)

    def _takes(self, shape: Shape) -> bool:
        """Whether the layers take samples of such a shape."""
        with suppress(ShapeError):
            self.output_shape(shape)
            return True
        return False

    def _mended(self, shape: Shape) -> str:
        """Return what makes samples fit whose shape the layers refuse, if that is known."""
        for fitting in (shape[-1:] + shape[:-1], (1, *shape)):
            if self._takes(fitting):
                return mended_shape("x", shape, fitting)
        return ""

    @checked
    def summary(self) -> str:
        """Return a table: each layer, its output shape, its parameters, its multiply-adds.

        >>> import tinyconv as tc
        >>> net = tc.Sequential([tc.Linear(4, 8), tc.ReLU(), tc.Linear(8, 3)], input_shape=(4,))
        >>> print(net.summary())
           layer    output  parameters  multiply-adds
        0  Linear   8               40             32
        1  ReLU     8                0              0
        2  Linear   3               27             24
           total                    67             56
        >>> net[0].trainable = False
        >>> print(net.summary().splitlines()[-1])
           frozen                   40
        """
        return text_table([HEAD, *summary_rows(self.layers, self.input_shape)], left=3)

    def _repr_html_(self) -> str:
        """Return the table for a notebook."""
        return html_table(HEAD, summary_rows(self.layers, self.input_shape))

    def __str__(self) -> str:
        return self.summary()
