"""A network as its user sees it: build, train, ask, save, load."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from tinyconv import files
from tinyconv.arguments import Count, FilePath, Function, NotNegative, Share, Switch, checked
from tinyconv.backend import Array, check_device, namespace
from tinyconv.data.report import Pixels
from tinyconv.engines.base import Totals
from tinyconv.engines.choose import engine_for, sum_for
from tinyconv.engines.eager import EagerEngine
from tinyconv.engines.ranks import Comm, Ranks, ends_all
from tinyconv.engines.shared import SharedEngine
from tinyconv.errors import ArgumentError
from tinyconv.losses import LOSSES, Loss
from tinyconv.losses.base import take
from tinyconv.metrics import Metric, metrics_of
from tinyconv.network_files import read_network
from tinyconv.network_predict import Predictor
from tinyconv.optimizers import OPTIMIZERS, SGD, Optimizer
from tinyconv.training.batches import Augment, Batching
from tinyconv.training.callbacks import Callback, Position, Training
from tinyconv.training.checks import warn_of_nonsense
from tinyconv.training.fit import fit
from tinyconv.training.history import History
from tinyconv.training.run import check_callbacks, kept_in, read_data


class Sequential(Predictor):
    """Layers one after the other, with everything to train and use them.

    Parameters are made at once where every layer names its input size, else with the first batch
    or the ``input_shape``. Equal seeds give equal initial values, shuffles and dropout masks.

    Args:
        layers: from the input to the outputs: a list of layers, or the first of them.
        more: the others.
        seed: fixes all random numbers of the network.
        dtype: ``"float32"`` or ``"float64"``.
        device: ``"cpu"`` or ``"gpu"``.
        input_shape: of one sample, such as (1, 28, 28); taken from the first batch if None. Samples
            of other shapes are welcome as well where all layers take them: images of any size
            if nothing but a global pooling comes between convolutions and linear layers.

    Attributes:
        parameters: all parameters and gradients as two flat arrays (:class:`Parameters`).
        loss: of the last ``fit``; cross-entropy before one.
        position: epochs and steps that the network was trained for.
        version: counts the changes that :meth:`refresh` has found.
        class_names: the names of the classes, those of the data set that it was fitted to, if they
            are set; saved with the network, used by ``tinyconv predict`` and ``plot``.
        pixels: the numbers that the network was trained on, likewise; saved, and compared with what
            ``tinyconv predict`` is given.

    Raises:
        ShapeError: a layer does not fit the one before it.
        DtypeError: the dtype is neither of the two.
        DeviceError: the device is not there.

    >>> import numpy as np
    >>> import tinyconv as tc
    >>> net = tc.Sequential([tc.Linear(4, 8), tc.ReLU(), tc.Linear(8, 3)], seed=0)
    >>> net.predict_proba(np.zeros((2, 4), np.float32)).shape
    (2, 3)
    >>> list(net.state_dict())
    ['0.weight', '0.bias', '2.weight', '2.bias']
    """

    # One pass.

    @checked
    def loss_and_grads(
        self, x: Array, y: Array, *, sample_weight: Array | None = None
    ) -> tuple[float, dict[str, Array]]:
        """Return the mean loss of a batch and its gradient with respect to every parameter.

        Dropout is off, so that the loss is a function of the parameters alone.

        Args:
            x: (N, ...), samples; targets and weights are those of :meth:`fit` likewise, and so are
                the errors.
            y: (N, ...).
            sample_weight: (N,), how often each sample counts; None for 1.

        Returns:
            The loss and a dictionary: the name of a parameter that is not frozen -> array of its
            shape, a copy.

        >>> import numpy as np
        >>> import tinyconv as tc
        >>> net = tc.Sequential([tc.Linear(4, 3)], seed=0)
        >>> loss, grads = net.loss_and_grads(np.ones((2, 4), np.float32), np.array([0, 2]))
        >>> grads["0.weight"].shape
        (3, 4)
        """
        x, given = self._samples("loss_and_grads", x, y, sample_weight, self.loss)
        index, flat = np.arange(len(x)), self.parameters.flat
        if (type(x), x.dtype) != (type(flat), flat.dtype):
            x = take(x, index, flat).astype(flat.dtype, copy=False)
        outputs = self.forward(x)
        targets, weight = given.batch(index, outputs)
        value = self.loss.forward(outputs, targets, *(() if weight is None else (weight,)))
        self.backward(self.loss.backward())
        xp = namespace("loss_and_grads", x=x)
        copies = {k: xp.asarray(v, copy=True) for k, v in self.parameters.grads.items()}
        return float(value), copies

    # Training.

    @checked
    def start_training(
        self,
        *,
        loss: Loss | str | None = None,
        optimizer: Optimizer | str | None = None,
        engine: str = "auto",
    ) -> None:
        """Say what the following :meth:`train_step` minimise, by which rule; it starts afresh.

        Arguments are those of :meth:`fit`.

        Raises:
            ArgumentError: an argument is unknown, or every layer is frozen.
        """
        self.loss = self.loss if loss is None else LOSSES.of("start_training", loss)
        rule = SGD(lr=0.1) if optimizer is None else OPTIMIZERS.of("start_training", optimizer)
        self.refresh()
        self._require_trained("start_training")
        self._stepper = engine_for(self, engine)
        self._stepper.start_training(self.loss, rule)

    @checked
    def train_step(
        self,
        x: Array,
        y: Array,
        *,
        sample_weight: Array | None = None,
        lr: NotNegative | None = None,
    ) -> float:
        """Train on one batch; return its loss, before the step.

        What ``fit`` does for every batch, for loops of one's own; :meth:`start_training` comes
        first, else the loss is the network's and the optimizer ``SGD(lr=0.1)``.

        Args:
            x: (N, ...), samples; targets and weights are those of :meth:`fit` likewise.
            lr: the rate of this step; the optimizer's if None.

        Raises:
            NonFiniteError: the loss is not finite; nothing was changed. Other errors are those of
                :meth:`fit`.

        >>> import numpy as np
        >>> import tinyconv as tc
        >>> net = tc.Sequential(tc.Linear(2, 2), seed=0)
        >>> x, y = np.eye(2, dtype="f"), np.arange(2)
        >>> losses = [net.train_step(x, y) for _ in range(20)]
        >>> losses[-1] < losses[0]
        True
        """
        x, targets = self._samples("train_step", x, y, sample_weight, self.loss)
        if self._stepper is None:
            self.start_training()
        engine = self._stepper
        assert engine is not None
        with self._trained_by_one():
            engine.start_epoch(Totals())
            rate = engine.optimizer.lr if lr is None else lr
            engine.train_step(x, targets, np.arange(len(x)), self.position.step, rate)
            totals = engine.totals()
            self.position.step += 1
        return totals.means()["loss"]

    @ends_all
    @checked
    def fit(
        self,
        x: Any,
        y: Array | None = None,
        *,
        epochs: Count = 1,
        batch_size: Count = 10,
        optimizer: Optimizer | str | None = None,
        loss: Loss | str | None = None,
        metrics: Sequence[str | Metric | Callable[[Any, Any], float]] | None = None,
        sample_weight: Array | None = None,
        validation_data: Sequence[Array] | None = None,
        validation_split: Share = 0.0,
        shuffle: bool = True,
        drop_last: bool = False,
        augment: Annotated[Augment | None, Function("x", "key")] = None,
        verbose: Annotated[bool, Switch()] = True,
        callbacks: Sequence[Callback] = (),
        engine: str = "auto",
        profile: bool = False,
        checkpoint: Annotated[str | Path, FilePath()] | None = None,
        resume: bool = False,
        comm: Comm | None = None,
        sync_batch_norm: bool = False,
    ) -> History:
        """Train the network.

        Args:
            x: (S, ...), floating-point samples: an array, or what NumPy makes one of (a list, a
                data frame, a tensor of PyTorch or JAX in host memory). Or a pair (x, y) in place
                of both; or what ``tc.data.load`` returned, whose validation part is taken too where
                there is no other, and whose ``class_names`` and ``pixels`` the network keeps; or
                batches (x, y), whose sizes and order are then theirs: a list of them, a
                ``DataLoader``, a function that yields them, a generator (for one epoch).
            y: targets as the loss takes them: class indices (S,), or (S, H, W) for outputs
                (K, H, W); probabilities (S, K); for the losses of numbers an array of the shape
                of the outputs, such as x itself.
            epochs: how often to see every sample; with ``resume``, the total of the whole run.
            batch_size: samples a step; the last batch of an epoch may be shorter.
            optimizer: the update rule, or its name, such as ``"adam"``, which starts afresh. If
                None, that of the ``fit`` before goes on with what it remembers; ``SGD(lr=0.1)``
                if there was none.
            loss: what to minimise, or its name, such as ``"mse"``; what the network has
                (cross-entropy) if None.
            metrics: what to measure beside the loss, such as ``["accuracy", "top_5"]``; see
                :mod:`tinyconv.metrics`. What suits the loss if None.
            sample_weight: (S,), how often each sample counts in the loss and in the figures; None
                for 1.
            validation_data: samples, targets and, if you like, their weights, to evaluate after
                every epoch.
            validation_split: share of the samples to evaluate instead of training on them, drawn
                at random; equal seeds draw the same ones.
            shuffle: give every epoch an order of its own, a function of the seed and the epoch.
            drop_last: leave out a last batch that is not whole.
            augment: ``augment(x, key)`` returns what a batch (N, ...) is replaced by; the key, an
                integer for :mod:`tinyconv.data.augment`, follows from the seed, the epoch and the
                batch.
            verbose: show progress on standard error.
            callbacks: a list; see :mod:`tinyconv.training.callbacks`.
            engine: what executes the steps: ``"plan"`` compiled kernels, ``"eager"`` the layers
                one by one, ``"auto"`` the plan where there is one: for float32.
            profile: whether to measure each call of the plan; ``profile`` of the history then
                holds seconds a step by name, and training takes longer.
            checkpoint: folder that gets everything needed to resume after every epoch.
            resume: continue the run whose checkpoint the folder holds, bit for bit as if it had
                not stopped, if the number of threads is the same (else with a warning); begin
                where there is none. The data must be the same: a fingerprint of them is kept.
            comm: a communicator of ``mpi4py``, or one like it, whose processes share each batch:
                every one calls ``fit`` with the same arguments and data, and gets the same weights
                as one process would, to rounding. Callbacks run in each process, but loggers in the
                first one alone, which writes the checkpoint too and shows progress, of its own part
                until the epoch ends. An exception in one ends all.
            sync_batch_norm: whether batch normalisation takes its statistics of the whole batch
                with ``comm``, which takes three more messages a layer, and not of its process's
                part alone.

        Returns:
            The history, a row an epoch.

        Raises:
            ArgumentError: an argument is out of range or unknown, or a target out of range; or
                every layer is frozen.
            ShapeError: shapes of samples, targets or weights do not fit.
            DtypeError: samples that are not floating-point, targets that the loss does not take.
            DeviceError: samples or targets that are no arrays.
            NonFiniteError: the loss became infinite or NaN; the text says where.
            FileError: the checkpoint to resume is corrupt or of another run; or, without
                ``resume``, the folder holds one already; or another process trains in it.
            StateError: ``engine="plan"`` where there is none; ``resume`` without ``checkpoint``;
                or the network is being trained by another thread.

        >>> import numpy as np
        >>> import tinyconv as tc
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(200, 2)).astype("float32")
        >>> y = (x[:, 0] * x[:, 1] > 0).astype(int)      # exclusive or
        >>> net = tc.Sequential([tc.Linear(2, 16), tc.Tanh(), tc.Linear(16, 2)], seed=1)
        >>> history = net.fit(x, y, epochs=60, optimizer=tc.SGD(lr=0.5), verbose=False)
        >>> history["accuracy"][-1] > 0.95
        True
        """
        loss = self.loss if loss is None else LOSSES.of("fit", loss)
        rule = self._rule[0] if optimizer is None else OPTIMIZERS.of("fit", optimizer)
        if sync_batch_norm and comm is None and not resume:  # what ranks began, one may end
            raise ArgumentError(
                "fit: sync_batch_norm is True and comm is None, expected the communicator of the "
                "processes that share the batch, or False"
            )
        data = read_data(
            partial(self._samples, loss=loss),
            x,
            y,
            sample_weight,
            Batching(batch_size, self.seed, shuffle, drop_last, augment),
            validation_data=validation_data,
            validation_split=validation_split,
            epochs=epochs,
            resumable=checkpoint is not None,
        )
        self._require_trained("fit")
        warn_of_nonsense(data.some, rule.lr)
        outputs = self.output_shape(tuple(data.some.shape[1:]))
        measured = metrics_of("fit", metrics, loss, outputs)
        names = ["loss", *(metric.name for metric in measured)]
        ranks = Ranks(comm)
        verbose = verbose and ranks.is_first
        validates = data.validation is not None
        hung = check_callbacks(callbacks, verbose, names, validates, ranks)
        executing = engine_for(self, engine)
        if profile and type(executing) is EagerEngine:
            raise ArgumentError(
                "fit: profile is True, which measures the calls of a plan, and the layers run one "
                "by one"
            )
        self.loss = loss
        if data.source is not None:
            self.class_names = data.source.class_names or None
            self.pixels = Pixels.of(data.some, data.source.kind)
        settings = data.settings | {
            "engine": type(executing).__name__,
            "optimizer": repr(rule),
            "loss": repr(loss),
        }
        if sync_batch_norm:
            settings["sync_batch_norm"] = True
        if ranks.size > 1:
            total = sum_for(self, ranks, lambda: training.stop)
            executing = SharedEngine(self, executing, ranks, total, sync_batch_norm)
        executing.start_training(loss, rule, measured, verbose=verbose, profile=profile)
        memory = self._rule[1] if optimizer is None else None
        for name, array in (memory or {}).items():
            executing.optimizer_state[name][...] = array
        training = Training(
            engine=executing,
            parameters=self.parameters,
            state=self.state,
            epochs=self.position.epoch + epochs,
            batches=len(data.batches),
            position=Position(self.position.epoch, 0, self.position.step),
            history=History(),
            lr=float(rule.lr),
            callbacks=hung,
            ranks=ranks,
        )
        validate = None
        if data.validation is not None:
            validate = partial(self._figures, *data.validation, measured, ranks=ranks)
        with (
            self._trained_by_one(),
            kept_in(checkpoint, training, resume, self._tensors(), self._about, settings),
        ):
            try:
                return fit(training, data.batches, validate)
            finally:
                self.position = training.position
                self._rule = rule, executing.optimizer_state
                training.history.profile = executing.profile

    def _require_trained(self, op: str) -> None:
        """Refuse to train what has nothing that training would change."""
        self.parameters  # noqa: B018 - raises where there are none yet
        owners = [layer for layer in self.walk() if layer.params or layer.state]
        if any(layer.trainable for layer in owners):
            return
        why = "no layer has parameters; add one that has, such as Linear(None, 10)"
        if owners:
            why = f"every layer is frozen; set net[{owners[-1].path!r}].trainable = True, for one"
        raise ArgumentError(f"{op}: there is nothing to train: {why}")


@checked
def load(path: Annotated[str | Path, FilePath()], device: str = "cpu") -> Sequential:
    """Read a network that ``save`` wrote. No code of the file is ever executed.

    Args:
        path: of the file, or of the folder of a run, which holds it as ``model.safetensors``.
        device: where the network shall live.

    Raises:
        FileError: the file is missing, corrupt, foreign, or of a later version.
        DeviceError: the device is not there.
    """
    check_device(device)
    path, layers, tensors, about = read_network(path)
    with files.naming(path):
        kept = {name: about[name] for name in ("seed", "dtype", "input_shape")}
        net = Sequential(layers, device=device, **kept)
        net.loss = LOSSES.make(about["loss"], about["loss_config"])
        net.position = Position(epoch=about["epochs"], step=about["steps"])
        net.class_names = about["class_names"] and tuple(about["class_names"])
        net.pixels = about["pixels"] and Pixels(**about["pixels"])
        files.copy_tensors(str(path), tensors, net._tensors())
    return net
