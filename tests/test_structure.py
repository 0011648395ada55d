"""The house stands as designed: imports point down its floors, and heavy ones stay in the edges."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

import tinyconv

PACKAGE = Path(tinyconv.__file__).parent
ROOT = PACKAGE.parent

#: The floor of every file and folder of the package. What is not listed has no place yet.
FLOORS = {
    "errors": 0,
    "spellings": 0,
    "arguments": 1,
    "messages": 1,
    "registry": 1,
    "tables": 1,
    "files": 2,
    "backend": 1,
    "random": 1,
    "geometry": 1,
    "data": 1,
    "ops": 2,
    "kernels": 2,
    "parameters": 3,
    "initializers": 3,
    "losses": 3,
    "metrics": 3,
    "optimizers": 3,
    "schedules": 3,
    "layers": 3,
    "engines": 4,
    "training": 5,
    "network": 6,
    "network_base": 6,
    "network_files": 6,
    "network_predict": 6,
    "gradcheck": 7,
    "models": 7,
    "pictures": 7,
    "plots": 7,
    "analysis": 7,
    "ensemble": 7,
    "trials": 7,
    "network3": 7,
    "testing": 7,
    "interop": 7,
    "explore": 7,
    "lessons": 7,
    "__init__": 7,
    "cli": 8,
    "__main__": 8,
}

#: Imports from outside that only these places may make; a place is a prefix of a module's path.
EDGES = ("models", "pictures", "plots", "analysis", "ensemble", "network3", "testing", "interop")
HEAVY = {
    "cupy": ("backend", "kernels.gpu"),
    "cupyx": ("backend", "kernels.gpu"),
    "numba": ("kernels.cpu", "engines"),
    "llvmlite": ("kernels.cpu",),
    "matplotlib": EDGES,
    "onnx": EDGES,
    "onnxruntime": EDGES,
    "sklearn": EDGES,
    "torch": (*EDGES, "gradcheck.torch"),
    "jax": (*EDGES, "gradcheck.jax"),
    "scipy": EDGES,
    "tensorboardX": EDGES,
    "h5py": EDGES,
    "PIL": ("data", *EDGES),
    "pooch": ("data",),
    "requests": (),
}


@dataclass(frozen=True)
class Import:
    """One imported module or name, as a dotted path: ``tinyconv.ops.conv.conv2d``."""

    target: str
    line: int
    when_loaded: bool  # at the top of a module, outside ``if TYPE_CHECKING``


def imports_of(module: ast.Module, package: str) -> Iterator[Import]:
    """All imports of a file, at the top, in functions and under ``TYPE_CHECKING`` alike."""
    nodes: list[tuple[ast.AST, bool]] = [(module, False)]
    for node, is_late in nodes:  # which grows meanwhile
        is_check = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        below = is_late or is_check or is_function
        nodes += [(child, below) for child in ast.iter_child_nodes(node)]
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, not is_late)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join([*parts[: len(parts) - node.level + 1], *filter(None, [base])])
            for alias in node.names:
                yield Import(f"{base}.{alias.name}", node.lineno, not is_late)
        elif isinstance(node, ast.Call) and node.args:
            argument, called = node.args[0], node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if name in ("import_module", "__import__") and isinstance(argument, ast.Constant):
                yield Import(str(argument.value), node.lineno, False)


def name_of(path: Path) -> str:
    """``layers.conv`` for tinyconv/layers/conv.py, ``layers`` for its __init__."""
    parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
    if len(parts) > 1 and parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts)


def floor_of(module: str) -> int:
    return FLOORS[module.partition(".")[0]]


def is_in(module: str, places: tuple[str, ...]) -> bool:
    return any(f"{module}.".startswith(f"{place}.") for place in places)


FILES = sorted(PACKAGE.rglob("*.py"))
SOURCES = {name_of(path): path.read_text() for path in FILES}


def package_of(path: Path) -> str:
    return ".".join(["tinyconv", *path.relative_to(PACKAGE).parent.parts])


PACKAGES = {name_of(path): package_of(path) for path in FILES}


@cache
def tree_of(module: str) -> ast.Module:
    """The syntax of a module of the package."""
    return ast.parse(SOURCES[module])


@cache
def imports_in(module: str) -> list[Import]:
    """All imports of a module of the package."""
    return [*imports_of(tree_of(module), PACKAGES[module])]


def module_in_house(target: str) -> str | None:
    """The module of the package that an import reaches; None for one from outside."""
    if target != "tinyconv" and not target.startswith("tinyconv."):
        return None
    inner = target.removeprefix("tinyconv").removeprefix(".")
    while inner and inner not in SOURCES:
        inner = inner.rpartition(".")[0]
    return inner or "__init__"


def test_every_file_has_a_floor() -> None:
    unknown = {name.partition(".")[0] for name in SOURCES} - FLOORS.keys()
    assert not unknown, f"give these a floor in FLOORS: {sorted(unknown)}"


def faults_of(module: str, imports: list[Import]) -> list[str]:
    """What a module imports although the rules of the house forbid it."""
    faults = []
    for each in imports:
        place = f"{module}:{each.line} imports {each.target}"
        inner = module_in_house(each.target)
        if inner is None:
            outside = each.target.partition(".")[0]
            if outside in HEAVY and not is_in(module, HEAVY[outside]):
                faults.append(f"{place}: allowed only in {HEAVY[outside]}")
            continue
        # ``from tinyconv import random`` reaches the module random, not the package's __init__.
        if floor_of(inner) > floor_of(module):
            faults.append(f"{place}: up from floor {floor_of(module)} to {floor_of(inner)}")
        allowed = ("backend", "errors", "gradcheck")
        if is_in(module, ("gradcheck",)) and not is_in(inner, allowed):
            faults.append(f"{place}: gradcheck stands apart")
        if is_in(inner, ("kernels",)) and not is_in(module, ("kernels", "engines")):
            faults.append(f"{place}: the kernels are known to the engine alone")
    return faults


def test_imports_point_down_and_heavy_ones_stay_in_their_places() -> None:
    assert [fault for module in SOURCES for fault in faults_of(module, imports_in(module))] == []


@pytest.mark.parametrize(
    ("module", "source", "words"),
    [
        ("ops.conv", "from tinyconv.layers import Conv2d", "up from floor 2 to 3"),
        ("ops.conv", "from tinyconv import network", "up from floor 2 to 6"),
        ("ops.conv", "def f():\n    import tinyconv.training.fit", "up from floor 2 to 5"),
        ("layers.conv", "from ..training import fit", "up from floor 3 to 5"),
        ("layers.conv", "import tinyconv as tc", "up from floor 3 to 7"),
        ("ops.conv", "import cupy", "allowed only in"),
        ("ops.conv", "def f():\n    import cupy.cuda as c", "allowed only in"),
        ("network", "import matplotlib.pyplot as plt", "allowed only in"),
        ("network", "importlib.import_module('torch')", "allowed only in"),
        ("layers.conv", "from numba import njit", "allowed only in"),
        ("gradcheck.check", "from tinyconv.geometry import spread", "stands apart"),
        ("training.fit", "if TYPE_CHECKING:\n    from tinyconv.network import load", "up from"),
    ],
)
def test_these_checks_find_what_is_forbidden(module: str, source: str, words: str) -> None:
    package = f"tinyconv.{module.rpartition('.')[0]}".rstrip(".")
    faults = faults_of(module, [*imports_of(ast.parse(source), package)])
    assert len(faults) == 1
    assert words in faults[0]


def test_modules_import_each_other_in_no_circle() -> None:
    edges = {
        module: {
            inner
            for each in imports_in(module)
            if each.when_loaded and (inner := module_in_house(each.target)) not in (None, module)
        }
        for module in SOURCES
    }
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join([*trail[trail.index(module) :], module])
        if module not in done:
            for inner in sorted(edges[module]):
                # A package's own __init__ gathers its modules; they do not need it.
                if not module.startswith(f"{inner}."):
                    visit(inner, (*trail, module))
            done.add(module)

    for module in sorted(SOURCES):
        visit(module, ())


def test_importing_the_package_loads_nothing_heavy() -> None:
    """Neither what few need nor what is slow to load."""
    unwanted = [*HEAVY, "safetensors.torch", "tkinter", "threadpoolctl"]
    code = (
        "import sys, tinyconv\n"
        f"print([name for name in {unwanted} if name in sys.modules])\n"
        "print(set(tinyconv.__all__) - set(dir(tinyconv)))\n"
        f"print([name for name in {unwanted} if name in sys.modules])\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split("\n") == ["[]", "set()", "[]", ""]
    assert run.stderr == ""


def public_faults(path: str, source: str) -> list[str]:
    """What an example takes from the package although it is not public.

    Public is what stands in ``__all__`` of a module without an underscore, kernels and engine
    apart.
    """
    faults, module = [], ast.parse(source)
    for each in imports_of(module, ""):
        inner = module_in_house(each.target)
        if inner is None:
            continue
        place = f"{path}:{each.line} imports {each.target}"
        if is_in(inner, ("kernels", "engines")):
            faults.append(f"{place}: only the engine is to know the kernels")
        name = each.target.removeprefix("tinyconv").removeprefix(".")
        parts = name.removeprefix(inner).removeprefix(".") if inner != "__init__" else name
        if any(part.startswith("_") for part in name.split(".")):
            faults.append(f"{place}: a private name")
        elif parts and parts not in exports(inner):
            faults.append(f"{place}: not in __all__")
    for node in ast.walk(module):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            of = ast.unparse(node.value)
            if not node.attr.startswith("__") and of not in ("self", "cls"):
                faults.append(f"{path}:{node.lineno} uses {of}.{node.attr}: a private name")
    return faults


def exports(module: str) -> list[str]:
    """The names in a package's ``__all__``; of a module, which is read, what it defines.

    Those without an underscore are public, unless the module lists others.
    """
    package = PACKAGES[module].removeprefix("tinyconv.")
    if module in ("__init__", package):
        return list(import_module(f"tinyconv.{module}").__all__)
    if package in ("layers", "ops"):  # which gather what their files define
        gathered = import_module(f"tinyconv.{package}")
        own = {k: getattr(gathered, k).__module__ for k in gathered.__all__}
        return [name for name, where in own.items() if where == f"tinyconv.{module}"]
    if exported(module):
        return list(ast.literal_eval(exported(module)))
    defined = (ast.FunctionDef, ast.ClassDef)
    return [node.name for node in tree_of(module).body if isinstance(node, defined)]


def exported(module: str) -> str:
    for node in tree_of(module).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.unparse(node.value).replace("'", '"')
    return ""


SCRIPTS = sorted(
    path for folder in ("examples", "benchmarks") for path in (ROOT / folder).rglob("*.py")
)


def test_examples_and_benchmarks_use_public_names_only() -> None:
    assert SCRIPTS
    assert [fault for path in SCRIPTS for fault in public_faults(path.name, path.read_text())] == []


@pytest.mark.parametrize(
    ("source", "faults"),
    [
        ("import tinyconv as tc\ntc.Sequential", 0),
        ("from tinyconv import Conv2d, ops\nfrom tinyconv.ops import conv2d", 0),
        ("from tinyconv.ops.conv import conv2d", 0),
        ("from tinyconv import _secret", 1),
        ("from tinyconv.ops.pool import _pad", 1),
        ("from tinyconv.ops.pool import math", 1),
        ("import tinyconv as tc\nnet = tc.Sequential\nnet._parameters", 1),
        ("from tinyconv.kernels.cpu import conv", 1),
    ],
)
def test_this_check_finds_private_names(source: str, faults: int) -> None:
    assert len(public_faults("demo.py", source)) == faults


def test_every_package_says_what_it_exports_and_every_module_what_it_is() -> None:
    """A module inside says neither: what is private there has an underscore."""
    for path in FILES:
        name = name_of(path)
        body = tree_of(name).body
        if path.name == "__init__.py" and not all(isinstance(node, ast.Expr) for node in body):
            assert exported(name), f"{name} has no __all__"
        assert ast.get_docstring(tree_of(name)), f"{name} has no docstring"
