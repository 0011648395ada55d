"""The text of the kernels: what is in the files, and the one program made of them for a plan."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

FOLDER = Path(__file__).parent
COMMON = "common.cuh"
#: Of the compiler, beside CuPy's own.
OPTIONS = ("--std=c++17",)
#: Every file of kernels, without its ending.
FAMILIES = tuple(sorted(path.stem for path in FOLDER.glob("*.cu")))


class Instance(NamedTuple):
    """A family of kernels for sizes that are compiled in."""

    family: str  #: name of the file
    sizes: tuple[tuple[str, int], ...]  #: (name, value) of each macro, in the order of the file

    @classmethod
    def of(cls, family: str, sizes: Mapping[str, int]) -> "Instance":
        """Return the instance for these sizes; those of the file that are not named are 0.

        >>> Instance.of("batch", {"COUNT": 784})
        Instance(family='batch', sizes=(('COUNT', 784), ('GATHER', 0)))
        >>> Instance.of("batch", {"COUNTS": 784})
        Traceback (most recent call last):
        KeyError: 'batch.cu has no size COUNTS'
        """
        names = sizes_of(family)
        for name in sizes.keys() - set(names):
            raise KeyError(f"{family}.cu has no size {name}")
        return cls(family, tuple((name, int(sizes.get(name, 0))) for name in names))


#: Launches a kernel behind everything that was launched before: its instance and name, the blocks
#: along x, y and z, the threads of a block, and the arguments: arrays of the device, NumPy scalars
#: of the parameters' types, None for a null pointer.
Launch: TypeAlias = Callable[[Instance, str, tuple[int, int, int], int, Sequence[Any]], None]


@cache
def text_of(name: str) -> str:
    """Return the text of a file."""
    return (FOLDER / name).read_text()


@cache
def sizes_of(family: str) -> tuple[str, ...]:
    """Return the names of a family's macros, as the comment at the top of its file lists them.

    >>> sizes_of("elements")
    ('COUNT', 'ACTIVATION')
    """
    listed = text_of(f"{family}.cu").partition("// Sizes:\n")[2].partition("\n\n")[0]
    lines = re.findall(r"^//   ([A-Z0-9]+(?:, [A-Z0-9]+)*) ", listed, re.MULTILINE)
    return tuple(name for line in lines for name in line.split(", "))


@cache
def kernels_of(family: str) -> tuple[str, ...]:
    """Return the names of a family's kernels.

    >>> kernels_of("conv")
    ('conv_forward', 'conv_backward')
    """
    return tuple(re.findall(r"^KERNEL\((\w+)\)", text_of(f"{family}.cu"), re.MULTILINE))


def module_source(instances: Sequence[Instance]) -> str:
    """Return a program with the kernels of all instances; those of number k end in ``_k``.

    One program, because a compiler's start takes longer than a family.
    """
    parts = [PRELUDE, text_of(COMMON)]
    for number, (family, sizes) in enumerate(instances):
        macros = {name: str(value) for name, value in sizes}
        macros["KERNEL(name)"] = (
            f'extern "C" __global__ void __launch_bounds__({threads_of(family)}) name##_{number}'
        )
        # So that the functions of two instances do not meet; kernels have names of their own.
        parts.append(f"namespace instance_{number} {{")
        parts += [f"#define {name} {value}" for name, value in macros.items()]
        parts.append(text_of(f"{family}.cu"))
        parts += [f"#undef {name.partition('(')[0]}" for name in macros]
        parts.append("}")
    return "\n".join(parts)


#: The compiler that CuPy calls reads no header.
PRELUDE = """\
#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#endif
"""


def threads_of(family: str) -> int:
    """Return the most threads that a block of the family's kernels has: see common.cuh."""
    return 128 if family == "conv" else 256
