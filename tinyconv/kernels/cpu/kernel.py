"""What a kernel is: a compiled function that a plan calls through its address.

All kernels have one signature, so that one compiled loop (:mod:`driver`) can run any list of
them without going back to Python:

    kernel(a, thread, first, last)

``a`` is the kernel's own record of addresses and sizes, of which it is handed the address,
``thread`` numbers the thread, and the kernel does items ``first`` to ``last`` of its work: samples
of the batch, or rows of a weight. It holds no lock, allocates nothing and checks nothing.
"""

import ctypes
import gc
import hashlib
import pickle
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core.caching import FunctionCache, IndexDataCacheFile, NullCache
from numba.core.ccallback import CFunc
from numba.core.compiler_lock import global_compiler_lock
from numba.core.serialize import dumps
from numba.extending import intrinsic, overload

from tinyconv.kernels.cpu.instruction import literal

#: What kernels alone call is not compiled for calls from Python and C, a tenth of compiling's time.
INNER = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}


class _Listener:
    call: Callable[[], None] | None = None


@contextmanager
def when_compiling(function: Callable[[], None] | None) -> Iterator[None]:
    """Call ``function``, if there is one, when the first kernel inside had to be compiled."""
    before, _Listener.call = _Listener.call, function
    try:
        yield
    finally:
        _Listener.call = before


@contextmanager
def _without_collector() -> Iterator[None]:
    """Collect no garbage inside: a compiler makes many objects, nearly all of them in use."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@cache
def _sources() -> str:
    """A digest of all source files of this folder: any kernel may call functions of any of them."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


class _Files(IndexDataCacheFile):
    """The files of one function: one for each of its signatures, machines and sets of constants.

    A file is named by what it is for. Numba would number them and keep an index, in which two
    processes that compile at once can give one number to two kernels, and each then run the
    other's code. In front of what Numba reads stands what it was made from, behind it a checksum:
    a flipped bit would be executed. A file that is damaged or out of date is one that is not there.
    """

    def _made_from(self) -> bytes:
        return hashlib.sha256(repr((self._version, self._source_stamp)).encode()).digest()

    def _path_of(self, key: object) -> str:
        name = hashlib.sha256(repr(key).encode()).hexdigest()[:32]
        return str(self._data_path(self._data_name_pattern.replace("{number:d}", name)))

    def save(self, key: object, data: object) -> None:
        content = self._made_from() + dumps(data)
        with self._open_for_write(self._path_of(key)) as file:
            file.write(content + hashlib.sha256(content).digest())

    def load(self, key: object) -> object:
        try:
            whole = Path(self._path_of(key)).read_bytes()
        except OSError:
            return None
        content, checksum = whole[:-32], whole[-32:]
        if content[:32] != self._made_from() or hashlib.sha256(content).digest() != checksum:
            return None
        return pickle.loads(content[32:])


class _Cache(FunctionCache):
    """Numba's cache of one function, which is out of date when any file of this folder changes.

    Numba looks at the file of the function alone, not at those of the functions that it calls.
    """

    _cache_file: Any

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        stamp = self._cache_file._source_stamp, _sources()
        self._cache_file = _Files(self._cache_path, self._impl.filename_base, stamp)

    def save_overload(self, sig: Any, data: Any) -> None:
        """Save what was compiled; a disk that is full costs time at the next start, no run."""
        try:
            super().save_overload(sig, data)
        except OSError as error:
            _say_uncached(f"{self.cache_path}: {error.strerror}")


@cache
def _say_uncached(why: str) -> None:
    """Warn, once a process, that kernels are compiled again at every start."""
    warnings.warn(
        f"compiled kernels cannot be cached ({why}), so they are compiled at every start; "
        "NUMBA_CACHE_DIR names another folder for them",
        RuntimeWarning,
        stacklevel=2,
    )


def _cached(compiled: Any, function: Callable[..., Any]) -> Any:
    """Give what Numba is about to compile a cache, if any folder for it can be written to.

    That is beside this file or, where that is read-only, the user's cache folder.
    """
    try:
        compiled._cache = _Cache(function)
    except RuntimeError as error:
        if "cannot cache" not in str(error):
            raise
        _say_uncached("no folder can be written to")
    return compiled


class Kernel(CFunc):
    """A compiled function of the address of a record and three numbers.

    It is compiled, or fetched from the cache, when its address is first asked for, if it was not
    before, with others (:mod:`compiling`).

    Attributes:
        layout: of its record.
        origin: the function that made it and the constants that it was made for, if it is known.
    """

    layout: np.dtype[Any]
    origin: tuple[Callable[..., Any], tuple[Any, ...]] | None = None
    _cache: Any
    _cache_hits: int
    _compile_uncached: Callable[[], Any]
    _sig: Any
    _targetdescr: Any

    @property
    def address(self) -> int:
        """What a plan keeps."""
        self.compile()
        return int(self._wrapper_address)

    @cached_property
    def ctypes(self) -> Any:
        """It as a function of Python, to which the record is its address."""
        numbers = (ctypes.c_int64,) * 3
        return ctypes.CFUNCTYPE(None, ctypes.c_void_p, *numbers)(self.address)

    @property
    def is_cacheable(self) -> bool:
        """Whether there is a folder where other processes find what one compiles."""
        return not isinstance(self._cache, NullCache)

    @global_compiler_lock
    def fetch(self) -> bool:
        """Look for it in the cache; return whether it is there, or already here."""
        if self._wrapper_address is None:
            found = self._cache.load_overload(self._sig, self._targetdescr.target_context)
            if found is not None:
                self._cache_hits += 1
                self._take(found)
        return self._wrapper_address is not None

    @global_compiler_lock
    def compile(self) -> None:
        """Compile it if it is not in the cache."""
        if self.fetch():
            return
        with _without_collector():
            made = self._compile_uncached()
        self._cache.save_overload(self._sig, made)
        self._take(made)
        if _Listener.call is not None:
            listener, _Listener.call = _Listener.call, None
            listener()

    def _take(self, result: Any) -> None:
        self._library, self._wrapper_name = result.library, result.fndesc.llvm_cfunc_wrapper_name
        self._wrapper_address = self._library.get_pointer_to_function(self._wrapper_name)


def kernel(layout: np.dtype[Any]) -> Callable[[Callable[..., None]], Kernel]:
    """Make a kernel of a function whose first argument is a record of that layout.

    Of the fast-math flags only contraction is on: a product and a sum may be rounded once.
    """

    def make(function: Callable[..., None]) -> Kernel:
        args = (numba.from_dtype(layout), types.int64, types.int64, types.int64)
        options = {"error_model": "numpy", "fastmath": {"contract"}}
        made = Kernel(function, (args, types.void), {}, options)
        made.layout = layout
        _cached(made, function)
        return made

    return make


def inner(function: Callable[..., Any]) -> Any:
    """``numba.njit`` of what kernels alone call, compiled with each of them."""
    return numba.njit(**INNER)(function)


def choice(functions: Sequence[Callable[..., Any]]) -> Any:
    """Return a function of a number, a compile-time constant, and of what that function takes.

    So a kernel names a function by its number: Numba's cache knows it by what it encloses, and a
    function would be another one in each process.
    """

    def call(number: int, *args: Any) -> Any:
        raise NotImplementedError("only inside a kernel")

    @overload(call, jit_options=INNER, prefer_literal=True)
    def typed(number, *args):  # type: ignore[no-untyped-def]
        function = inner(functions[literal(number)])
        return lambda number, *args: function(*args)

    return call


def njit(*signatures: Any, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """``numba.njit`` with the cache; what has signatures is compiled at once.

    What has none is for kernels alone.
    """
    options = options if signatures else options | INNER

    def compile_(function: Callable[..., Any]) -> Any:
        compiled = _cached(numba.njit(**options)(function), function)
        with _without_collector():
            for signature in signatures:
                compiled.compile(signature)
        return compiled

    return compile_


def record(*fields: str, floats: tuple[str, ...] = ()) -> np.dtype[Any]:
    """Return the layout of a kernel's arguments: 64-bit integers, then float32 constants."""
    return np.dtype([(name, np.int64) for name in fields] + [(name, np.float32) for name in floats])


def images(*names: str) -> tuple[str, ...]:
    """Return the fields that say where images lie: address, and strides from one to the next.

    >>> images("x")
    ('x', 'x_sample', 'x_plane', 'x_row')
    """
    return tuple(f"{name}{part}" for name in names for part in ("", "_sample", "_plane", "_row"))


@intrinsic
def record_at(typing: Any, address: types.Type, layout: types.Type) -> Any:
    """In a kernel: the record of that layout at an address, which is a pointer or an integer.

    Numba's ``carray(address, 1, layout)[0]`` is the same and takes ten times as long to compile.
    """
    result = layout.dtype  # Numba passes a record around as a pointer to it

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        to_pointer = builder.inttoptr if isinstance(address, types.Integer) else builder.bitcast
        return to_pointer(args[0], context.get_value_type(result))

    return result(address, layout), emit


def address_of(args: np.ndarray[Any, Any]) -> int:
    """Return the address of an array's first element."""
    buffer: Any = args  # which an array is, though NumPy's stubs do not say so to Python 3.11
    try:
        return ctypes.addressof(_NOTHING.from_buffer(buffer))  # faster than ``args.ctypes``
    except (TypeError, ValueError):  # read-only, or with gaps
        return int(args.ctypes.data)


_NOTHING = ctypes.c_char * 0
