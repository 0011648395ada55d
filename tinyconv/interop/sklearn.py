"""Convolutional networks as scikit-learn's estimators."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from math import prod
from typing import Any, ClassVar

import numpy as np

from tinyconv import layers as L
from tinyconv.backend import Values
from tinyconv.geometry import sample_shape
from tinyconv.interop import require
from tinyconv.layers.base import Layer, Shape
from tinyconv.messages import shown
from tinyconv.models import named_net
from tinyconv.network import Sequential
from tinyconv.optimizers import Optimizer
from tinyconv.training.callbacks import Callback, EarlyStopping, KeepBest

require("sklearn", "sklearn")

from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin  # noqa: E402
from sklearn.model_selection import train_test_split  # noqa: E402
from sklearn.utils import check_random_state, compute_sample_weight  # noqa: E402
from sklearn.utils.multiclass import check_classification_targets  # noqa: E402
from sklearn.utils.validation import (  # noqa: E402
    _check_sample_weight,
    check_is_fitted,
    validate_data,
)

Net = str | Sequence[Layer] | L.Chain | Callable[[tuple[int, ...], int], Sequence[Layer]] | None


@dataclass(eq=False, repr=False)  # whose __init__ only sets attributes, as scikit-learn wants it
class _ConvNet(BaseEstimator):  # type: ignore[misc]
    """What the two estimators share: the network, the data, training."""

    _loss: ClassVar[str]

    net: Net = None
    _: KW_ONLY
    image_shape: tuple[int, ...] | None = None
    epochs: int = 50
    batch_size: int | None = 32
    optimizer: Optimizer | str = "adam"
    early_stopping: bool = False
    validation_fraction: float = 0.1
    patience: int = 10
    warm_start: bool = False
    random_state: Any = None
    engine: str = "auto"
    dtype: str = "float32"
    verbose: bool = False

    # Data.

    def _samples(self, X: Any, reset: bool, y: Any = ()) -> Values:
        """Return X as the network takes it: of its dtype, of ``image_shape`` if there is one."""
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None"
            )
        shape: Shape | None = None
        if self.image_shape is not None:
            shape = sample_shape(type(self).__name__, self.image_shape, "image_shape")
            if np.ndim(X) == len(shape) + 1:
                X = np.reshape(X, (len(X), -1))
        x: Values = validate_data(self, X, dtype=self.dtype, reset=reset)
        if shape is None:
            return x
        if prod(shape) != x.shape[1]:
            raise ValueError(
                f"X has {x.shape[1]} features, expected {prod(shape)} because image_shape is "
                f"{self.image_shape}"
            )
        return x.reshape(len(x), *shape)

    # The network.

    def _layers(self, shape: tuple[int, ...], outputs: int) -> Sequence[Layer]:
        net = self.net
        if net is None:
            return _default_layers(shape, outputs)
        if isinstance(net, str):
            return named_net(net).build(input_shape=shape, classes=outputs).layers
        layers = net(shape, outputs) if callable(net) and not isinstance(net, Layer) else net
        if not isinstance(layers, Sequence | L.Chain):
            raise ValueError(f"net is {shown(net)}, expected layers, a function or a name")
        return list(layers)

    def _build(self, shape: tuple[int, ...], outputs: int) -> None:
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        layers = L.encode(self._layers(shape, outputs), by_class=True)
        unbound = L.decode(layers, by_class=True)  # without parameters
        self.net_ = Sequential(unbound, seed=seed, input_shape=shape, dtype=self.dtype)
        if self.net_.output_shape(shape) != (outputs,):
            raise ValueError(
                f"net gives {self.net_.output_shape(shape)} for a sample, expected ({outputs},)"
            )
        self.net_.class_names = [str(label) for label in getattr(self, "classes_", ())] or None
        self.history_: list[dict[str, float]] = []

    def _train(self, x: Values, y: Values, weight: Values | None, epochs: int, stop: bool) -> None:
        callbacks: list[Callback] = []
        validation = None
        if stop:
            parts = [x, y] if weight is None else [x, y, weight]
            stratify = y if self._loss == "cross_entropy" else None
            split = train_test_split(
                *parts,
                test_size=self.validation_fraction,
                random_state=check_random_state(self.random_state),
                stratify=stratify,
            )
            x, y, *rest = split[0::2]
            weight, validation = (rest[0] if rest else None), tuple(split[1::2])
            callbacks = [EarlyStopping("val_loss", self.patience), KeepBest("val_loss")]
        history = self.net_.fit(
            x,
            y,
            epochs=epochs,
            batch_size=len(x) if self.batch_size is None else self.batch_size,
            optimizer=copy.deepcopy(self.optimizer),
            loss=self._loss,
            sample_weight=weight,
            validation_data=validation,
            callbacks=callbacks,
            engine=self.engine,
            verbose=self.verbose,
        )
        self.history_ += history.rows
        self.n_iter_ = len(self.history_)
        self.loss_ = self.history_[-1]["loss"]

    @staticmethod
    def _weights(x: Values, sample_weight: Any) -> Values | None:
        """Return how often each sample counts; None for 1."""
        if sample_weight is None:
            return None
        weights: Values = _check_sample_weight(
            sample_weight, x[:, :1], dtype=np.float64, ensure_non_negative=True
        )
        return weights

    def _outputs(self, X: Any) -> Values:
        check_is_fitted(self, "net_")
        return self.net_.logits(self._samples(X, reset=False))


@dataclass(eq=False, repr=False)
class ConvNetClassifier(ClassifierMixin, _ConvNet):  # type: ignore[misc]
    """A network that classifies.

    Args:
        net: a function of the shape of a sample and the number of classes that returns layers; a
            list of layers, or a network; or a name of :data:`tinyconv.models.NETS`. None is two
            convolutions for images and one hidden layer for rows of numbers.
        image_shape: of a sample, (C, H, W); the columns of X are reshaped to it. None leaves rows.
        epochs: how often to see every sample.
        batch_size: samples a step; None takes all of them, and then a sample of weight k counts
            as k copies do. With batches drawn at random it does so in the mean.
        optimizer: the update rule or its name.
        early_stopping: whether to keep the epoch with the best loss on a share of the samples,
            and to stop when it has not improved for ``patience`` epochs.
        validation_fraction: that share.
        patience: in epochs.
        warm_start: whether ``fit`` goes on from where the last one ended.
        random_state: fixes initial weights, shuffles and dropout.
        engine: as of :meth:`tinyconv.Sequential.fit`.
        dtype: of the network, ``"float32"`` or ``"float64"``.
        verbose: whether to show progress on standard error.
        class_weight: ``"balanced"`` or a dictionary: label -> how often its samples count.

    Attributes:
        classes_: the labels, of any type, sorted.
        net_: the network (:class:`tinyconv.Sequential`).
        history_: a row of figures an epoch.
        n_iter_: epochs.
        loss_: of the last one.

    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> model = ConvNetClassifier(image_shape=(1, 8, 8), epochs=3, random_state=0)
    >>> bool(model.fit(X[:500] / 16, y[:500]).score(X[500:] / 16, y[500:]) > 0.5)
    True
    """

    _loss: ClassVar[str] = "cross_entropy"

    class_weight: Any = None

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "ConvNetClassifier":
        """Train on X (N, features) or (N, *image_shape) with labels y (N,)."""
        x, y = self._checked(X, y, reset=True)
        classes = np.unique(y)
        if len(classes) < 2:
            raise ValueError(f"y holds one class only, {classes[0]!r}, expected at least two")
        goes_on = self.warm_start and hasattr(self, "net_")
        if not goes_on or not np.array_equal(classes, self.classes_):
            self.classes_: Values = classes
            self._build(x.shape[1:], len(classes))
        self._train(*self._weighted(x, y, sample_weight), self.epochs, self.early_stopping)
        return self

    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> "ConvNetClassifier":
        """Train for one epoch on some of the samples; the first call names all ``classes``."""
        is_first = not hasattr(self, "net_")
        x, y = self._checked(X, y, reset=is_first)
        if is_first:
            if classes is None:
                raise ValueError("partial_fit: classes must be passed on the first call")
            self.classes_ = np.unique(classes)
            self._build(x.shape[1:], len(self.classes_))
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(f"partial_fit: classes are {classes!r}, expected {self.classes_!r}")
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(f"partial_fit: y holds {unknown!r}, which is not among the classes")
        self._train(*self._weighted(x, y, sample_weight), 1, False)
        return self

    def predict_proba(self, X: Any) -> Values:
        """Return the probability of every class, (N, K), in the order of ``classes_``."""
        check_is_fitted(self, "net_")
        return self.net_.predict_proba(self._samples(X, reset=False))

    def predict(self, X: Any) -> Values:
        """Return the most likely label of every sample, (N,)."""
        outputs = self._outputs(X)
        labels: Values = self.classes_[outputs.argmax(axis=1)]
        return labels

    def _checked(self, X: Any, y: Any, reset: bool) -> tuple[Values, Values]:
        from sklearn.utils import check_consistent_length, column_or_1d

        x = self._samples(X, reset, y)
        y = column_or_1d(y, warn=True)
        check_consistent_length(x, y)
        check_classification_targets(y)
        return x, y

    def _weighted(
        self, x: Values, y: Values, sample_weight: Any
    ) -> tuple[Values, Values, Values | None]:
        """Return samples, class indices and how often each sample counts, those that do."""
        index = np.searchsorted(self.classes_, y)
        weight = self._weights(x, sample_weight)
        if self.class_weight is not None:
            own = compute_sample_weight(self.class_weight, y)
            weight = own if weight is None else weight * own
        if weight is None:
            return x, index, None
        counts = weight > 0
        return x[counts], index[counts], weight[counts].astype(self.dtype)


@dataclass(eq=False, repr=False)
class ConvNetRegressor(RegressorMixin, _ConvNet):  # type: ignore[misc]
    """A network that predicts numbers; it minimises the mean squared error.

    Targets are standardised for training, and predictions brought back to their scale. The
    arguments are those of :class:`ConvNetClassifier` without ``class_weight``; a function for
    ``net`` gets the number of targets for that of classes.

    Attributes:
        loss_: of the last epoch, in units of the targets' variance; the others are those of
            :class:`ConvNetClassifier`.

    >>> x = np.linspace(-1, 1, 200)[:, None]
    >>> model = ConvNetRegressor(epochs=100, random_state=0)
    >>> bool(model.fit(x, x[:, 0] ** 2).score(x, x[:, 0] ** 2) > 0.9)
    True
    """

    _loss: ClassVar[str] = "mse"

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "ConvNetRegressor":
        """Train on X (N, features) or (N, *image_shape) with targets y (N,) or (N, T)."""
        return self._fit(X, y, sample_weight, self.epochs, self.early_stopping, self.warm_start)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> "ConvNetRegressor":
        """Train for one epoch on some of the samples; the first call fixes the targets' scale."""
        return self._fit(X, y, sample_weight, 1, False, True)

    def predict(self, X: Any) -> Values:
        """Return the prediction for every sample, of the shape of y."""
        outputs: Values = self._outputs(X) * self._spread + self._centre
        return outputs[:, 0] if self._is_flat else outputs

    def _fit(
        self, X: Any, y: Any, sample_weight: Any, epochs: int, stop: bool, goes_on: bool
    ) -> "ConvNetRegressor":
        from sklearn.utils import check_array, check_consistent_length

        goes_on = goes_on and hasattr(self, "net_")
        x = self._samples(X, not goes_on, y)
        y = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
        check_consistent_length(x, y)
        targets, weight = y.reshape(len(y), -1), self._weights(x, sample_weight)
        if weight is not None:
            counts = weight > 0
            x, targets, weight = x[counts], targets[counts], weight[counts]
        if not goes_on:
            self._is_flat = y.ndim == 1
            self._centre = np.average(targets, axis=0, weights=weight)
            offsets = targets - self._centre
            top = np.abs(offsets).max(axis=0)
            top = np.where(top > 0, top, 1.0)  # beside it no square overflows, and not all vanish
            spread = top * np.sqrt(np.average((offsets / top) ** 2, axis=0, weights=weight))
            self._spread = np.where(spread > 0, spread, 1.0)
            self._build(x.shape[1:], targets.shape[1])
        elif targets.shape[1] != len(self._centre):
            raise ValueError(
                f"y has {targets.shape[1]} targets a sample, expected {len(self._centre)} as in "
                "the fit before"
            )
        scaled = ((targets - self._centre) / self._spread).astype(self.dtype)
        weight = None if weight is None else weight.astype(self.dtype)
        self._train(x, scaled, weight, epochs, stop)
        return self


def _default_layers(shape: tuple[int, ...], outputs: int) -> list[Layer]:
    """Two convolutions where a sample is an image that they fit, else one hidden layer."""
    if len(shape) == 3 and min(shape[1:]) >= 4:
        return [
            *(L.Conv2d(shape[0], 32, 3, padding=1), L.ReLU()),
            *(L.Conv2d(32, 64, 3, padding=1), L.MaxPool2d(2), L.ReLU()),
            *(L.Dropout(0.5), L.Flatten(), L.Linear(None, 128), L.ReLU()),
            *(L.Dropout(0.5), L.Linear(128, outputs)),
        ]
    first: list[Layer] = [L.Flatten()] if len(shape) > 1 else []
    return [*first, L.Linear(None, 100), L.ReLU(), L.Linear(100, outputs)]
