"""Many trainings side by side: sweeps over seeds and hyper-parameters, members of an ensemble.

They run through joblib: in processes of this machine or, inside ``joblib.parallel_config``, on
whatever its backends reach, such as the workers of a Dask or a Ray cluster.
"""

import itertools
import multiprocessing
import os
import pickle
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from tinyconv.arguments import Count, FilePath, Fitting, Kind, Numbers, checked
from tinyconv.errors import ArgumentError
from tinyconv.messages import shown
from tinyconv.tables import columns_of, csv_table, text_table
from tinyconv.training.history import History


@dataclass
class Attempt:
    """What came of a call."""

    value: Any = None  #: what it returned; None if it failed
    error: Exception | None = None  #: the exception that it raised, None if it did not
    trace: str = ""  #: where it did


def attempt_all(
    function: Callable[..., Any],
    calls: Iterable[Sequence[Any]],
    processes: int | None,
    again: Callable[..., Any] | None = None,
) -> list[Attempt]:
    """Call a function with each tuple of arguments; one that fails leaves the others alone.

    A call whose process dies, for want of memory for one, fails with a ChildProcessError. What was
    in work beside it is called once more.

    Args:
        function: that other processes can import or unpickle.
        calls: the arguments of each call.
        processes: how many calls at a time; 1 for one after the other in this process, None for
            as many as the machine, or the backend of ``joblib.parallel_config``, has workers.
        again: what is called the second time, the function if None.

    Raises:
        ImportError: joblib is not installed, and more than one process is asked for.

    >>> [a.value or type(a.error) for a in attempt_all(divmod, [(7, 2), (7, 0)], 1)]
    [(3, 1), <class 'ZeroDivisionError'>]
    """
    if processes == 1:
        return [_attempt(function, *arguments) for arguments in calls]
    try:
        from joblib import Parallel, delayed, effective_n_jobs, parallel
    except ImportError:
        raise ImportError(
            'training in several processes needs joblib: pip install "tinyconv[parallel]"'
        ) from None
    # Dask sends what several calls have as an argument once. So do memory maps, where arrays are
    # large; to Ray we say it ourselves.
    backend = parallel.get_active_backend()[0]
    is_ray = type(backend).__name__ == "RayBackend"
    sent = _ray_objects() if is_ray else lambda argument: argument
    jobs = [tuple(map(sent, arguments)) for arguments in calls]
    wanted, done = -1 if processes is None else processes, dict[int, Attempt]()
    as_they_end = "generator_unordered" if backend.supports_return_generator else "list"

    def run(places: Sequence[int], function: Callable[..., Any]) -> None:
        parallel = Parallel(n_jobs=wanted, return_as=as_they_end, batch_size=1)
        try:
            done.update(parallel(delayed(_placed)(n, function, *jobs[n]) for n in places))
        except BrokenExecutor:
            if len(places) == 1:
                done[places[0]] = Attempt(error=ChildProcessError(_DIED))

    run(range(len(jobs)), function)
    while left := [place for place in range(len(jobs)) if place not in done]:
        at_once = effective_n_jobs(wanted)
        for place in left[:at_once]:  # a worker has died with one of these
            run([place], again or function)
        run(left[at_once:], again or function)
    return [done[place] for place in range(len(jobs))]


def _ray_objects() -> Callable[[Any], Any]:
    """Return what puts an array into Ray's store, once for all calls that it is an argument of."""
    import ray  # type: ignore[import-not-found,import-untyped,unused-ignore]

    places: dict[int, _RayObject] = {}

    def put(argument: Any) -> Any:
        if not isinstance(argument, np.ndarray):
            return argument
        if id(argument) not in places:
            places[id(argument)] = _RayObject(ray.put(argument))
        return places[id(argument)]

    return put


@dataclass
class _RayObject:
    """An array in Ray's store."""

    place: Any


_DIED = "the process that worked on it ended with no exception, as one does that is killed"


def _placed(place: int, function: Callable[..., Any], *arguments: Any) -> tuple[int, Attempt]:
    return place, _attempt(function, *arguments)


def _attempt(function: Callable[..., Any], *arguments: Any) -> Attempt:
    if multiprocessing.current_process().name != "MainProcess":
        _end_with_parent()
    try:
        # joblib hands over large arrays as files that processes share: these are the arrays behind.
        return Attempt(function(*(_in_memory(argument) for argument in arguments)))
    except Exception as error:
        return Attempt(error=_sendable(error), trace=traceback.format_exc())


def _sendable(error: Exception) -> Exception:
    """Return an exception that arrives in another process, one with the same text if need be.

    One that cannot be made again there would take the results of all calls with it.
    """
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


@cache
def _end_with_parent() -> None:
    """End this process, which works for another one, a second after that one is gone.

    A process that is killed cannot tell its workers, and they would train on for nobody.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _in_memory(argument: Any) -> Any:
    if isinstance(argument, _RayObject):
        import ray  # type: ignore[import-not-found,import-untyped,unused-ignore]

        return ray.get(argument.place)
    return np.asarray(argument) if isinstance(argument, np.memmap) else argument


@dataclass
class Trial:
    """One training of a search.

    Attributes:
        settings: what it was called with, by name, the seed too.
        figures: what it returned, by name; nothing if it failed.
        error: the text of its exception; None if there was none.
        trace: where it was raised.
    """

    settings: dict[str, Any]
    figures: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    trace: str = ""


@dataclass(repr=False)
class Search:
    """What came of a search: a list of trials, in the order of the settings.

    Attributes:
        trials: one for each of the settings and each seed.
    """

    trials: Sequence[Trial]

    def __len__(self) -> int:
        return len(self.trials)

    def __getitem__(self, place: int) -> Trial:
        return self.trials[place]

    def medians(self, figure: str) -> list[tuple[dict[str, Any], float]]:
        """Return settings without the seed and the median over the seeds, the largest one first.

        Trials that failed do not count; NaN comes last.

        Args:
            figure: a name such as ``"val_accuracy"``.

        Raises:
            ArgumentError: no trial has such a figure.
        """
        found: dict[Any, tuple[dict[str, Any], list[float]]] = {}
        for trial in self.trials:
            if figure in trial.figures:
                settings = {k: v for k, v in trial.settings.items() if k != "seed"}
                same = tuple((name, _mark(value)) for name, value in settings.items())
                found.setdefault(same, (settings, []))[1].append(trial.figures[figure])
        if not found:
            names = sorted({name for trial in self.trials for name in trial.figures})
            raise ArgumentError(
                f"search: figure is {figure!r}, expected one of {', '.join(names) or 'none'}"
            )
        medians = [(settings, float(np.median(values))) for settings, values in found.values()]
        return sorted(medians, key=lambda pair: (pair[1] != pair[1], -pair[1]))

    def rows(self) -> list[dict[str, Any]]:
        """Return settings, figures and the error of each trial, by name.

        A setting hides a figure of its name: what the rate was set to, the rate that was left.
        """
        failed = any(trial.error is not None for trial in self.trials)
        return [
            trial.settings
            | trial.figures
            | trial.settings
            | ({"error": trial.error or ""} if failed else {})
            for trial in self.trials
        ]

    @checked
    def to_csv(self, path: Annotated[str | Path, FilePath()]) -> None:
        """Write the rows to a file, with names in the first line."""
        Path(path).write_text(csv_table(self.rows()))

    def __str__(self) -> str:
        rows = self.rows()
        names = columns_of(rows)
        return text_table(
            [names, *([_cell(row.get(name, "")) for name in names] for row in rows)], left=0
        )

    __repr__ = __str__


def _cell(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _mark(value: Any) -> Any:
    """Return what tells a setting from others: its text, or of arrays and objects which one it is.

    All trials of a setting hold the same object, but numbers and texts are copied with a search.
    """
    if isinstance(value, list | tuple):
        return type(value), *map(_mark, value)
    is_plain = value is None or isinstance(value, str | int | float | np.generic)
    return repr(value) if is_plain else id(value)


def _is_list(value: Any) -> bool:
    is_array = isinstance(value, np.ndarray) and value.ndim > 0
    return is_array or (isinstance(value, Sequence) and not isinstance(value, str))


@checked
def search(
    train: Annotated[Callable[..., Any], Fitting("a function", callable)],
    grid: Annotated[
        Mapping[str, Sequence[Any]] | None,
        Kind(Mapping, "a dictionary: name of an argument -> list of its values"),
    ] = None,
    *,
    data: Annotated[Sequence[Any], Kind(tuple | list, "a tuple of arrays, such as (x, y)")] = (),
    seeds: Annotated[Sequence[int], Numbers(whole=True)] = (0,),
    processes: Count | None = None,
) -> Search:
    """Train with all combinations of settings, each with all seeds, many at a time.

    Args:
        train: called as ``train(*data, seed=seed, **settings)``. Returns figures by name, or the
            history of a ``fit``, whose last row they are.
        grid: name of an argument of ``train`` -> its values.
        data: arrays that all trainings share. They go to a worker once, not with every training.
        seeds: of each of the settings.
        processes: trainings at a time; 1 for one after the other in this process, None for one a
            core, or what ``joblib.parallel_config`` names.

    Returns:
        The trials, in the order of the settings. One that failed has its error; the others go on.

    Raises:
        ArgumentError: the grid is no dictionary of lists, or one of them is empty or of seeds;
            there are no seeds, or ``data`` is one array.
        ImportError: joblib is not installed, and more than one process is asked for.

    >>> import tinyconv as tc
    >>> def train(x, y, *, seed, width):
    ...     net = tc.Sequential(tc.Linear(2, width), tc.Tanh(), tc.Linear(width, 2), seed=seed)
    ...     return net.fit(x, y, epochs=30, optimizer=tc.SGD(lr=0.5), verbose=False)
    >>> x = np.random.default_rng(0).normal(size=(200, 2)).astype("float32")
    >>> y = (x[:, 0] * x[:, 1] > 0).astype(int)
    >>> found = search(train, {"width": [1, 16]}, data=(x, y), seeds=[0, 1], processes=1)
    >>> len(found), found.medians("accuracy")[0][0]
    (4, {'width': 16})
    """
    grid = grid or {}
    for name, values in grid.items():
        if not isinstance(name, str) or name == "seed":
            raise ArgumentError(
                f"search: the grid has the name {name!r}, expected one of an argument; seeds are "
                "an argument of search"
            )
        if not _is_list(values) or len(values) == 0:
            raise ArgumentError(
                f"search: {name} of the grid is {shown(values)}, expected a list of values"
            )
    if len(seeds) == 0:
        raise ArgumentError("search: no seeds, expected at least one")
    settings = [
        dict(zip(grid, values, strict=True)) | {"seed": seed}
        for values in itertools.product(*grid.values())
        for seed in seeds
    ]
    attempts = attempt_all(_figures, [(train, each, *data) for each in settings], processes)
    return Search([_trial(*pair) for pair in zip(settings, attempts, strict=True)])


def _figures(train: Callable[..., Any], settings: dict[str, Any], *data: Any) -> dict[str, float]:
    """Return the figures of one training."""
    result = train(*data, **settings)
    if isinstance(result, History) and result.rows:
        result = result.rows[-1]
    if not isinstance(result, Mapping):
        raise ArgumentError(
            f"search: train returned {shown(result)}, expected figures by name or a history of "
            "epochs"
        )
    try:
        return {(at := name): float(value) for name, value in result.items()}
    except TypeError:
        raise ArgumentError(
            f"search: the figure {at!r} of train is {shown(result[at])}, expected a number"
        ) from None


def _trial(settings: dict[str, Any], attempt: Attempt) -> Trial:
    if attempt.error is None:
        return Trial(settings, attempt.value)
    error = f"{type(attempt.error).__name__}: {attempt.error}"
    return Trial(settings, error=error, trace=attempt.trace)
