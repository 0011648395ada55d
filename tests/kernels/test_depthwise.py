"""Convolution of each channel by itself against its operation."""

from math import prod
from typing import Any

import numpy as np
import pytest
from images import Image, call, filled, poisoned

from tinyconv.geometry import sliding_window
from tinyconv.kernels.cpu import depthwise, update
from tinyconv.kernels.cpu.kernel import address_of
from tinyconv.kernels.cpu.phases import border_of, over_three_axes, phases
from tinyconv.ops import conv as op

Array = np.ndarray[Any, Any]

#: size, kernel, stride, padding, dilation
CONVOLUTIONS: dict[str, tuple[Any, ...]] = {
    "one axis": ((13,), (3,), 2, 1, 1),
    "two axes": ((6, 7), (3, 3), 1, 1, 1),
    "three axes": ((3, 5, 6), (2, 3, 3), (1, 2, 1), 1, 1),
    "stride and dilation": ((12, 11), (2, 3), (3, 2), (1, 3), (2, 3)),
    "more stride than kernel": ((9, 10), (1, 2), (3, 4), 0, 1),
    "more padding than kernel": ((4, 5), (1, 2), 1, 3, 1),
}


def drawn(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def dot(a: Any, b: Any) -> int:
    return sum(p * q for p, q in zip(a, b, strict=True))


class Case:
    """A convolution with its operation's results, and what its kernels need."""

    def __init__(self, name: str, C: int) -> None:
        size, kernel, stride, padding, dilation = CONVOLUTIONS[name]
        axes = ("D", "H", "W")[-len(size) :]
        self.C, self.K, self.w_row = C, prod(kernel), 8
        self.x, self.w, self.b = drawn(1, 3, C, *size), drawn(2, C, 1, *kernel), drawn(3, C)
        arguments = (self.w, self.b, stride, padding, dilation, C, "zeros")
        self.y, saved = op._conv("test", axes, self.x, *arguments)
        self.dy = drawn(4, *self.y.shape)
        self.dx, self.dw, db = op._conv_backward("test", self.dy, saved)
        assert db is not None
        self.db = db
        self.geometry = over_three_axes(
            sliding_window("test", size, kernel, stride, padding, dilation)
        )
        # a border of zeros wide enough for every axis
        width = max(p for pair in self.geometry.padding for p in pair)
        self.source = Image(self.x, width, around=0)
        width = max(p for pair in border_of(self.geometry) for p in pair)
        self.dz = Image(self.dy, width, around=0)

    def strides(self, image: Image) -> list[int]:
        return [*image.strides[1:], self.C]

    def first(self, image: Image) -> int:
        """Address of the corner of the first window."""
        before = [p for p, _ in self.geometry.padding]
        return address_of(image.inside) - 4 * dot(before, self.strides(image))

    def windows(self) -> dict[str, int]:
        """From window to window in x."""
        steps = [
            s * d for s, d in zip(self.geometry.stride, self.strides(self.source), strict=True)
        ]
        return dict(zip(("x_forth", "x_down", "x_along"), steps, strict=True))

    def offsets(self, taps: Any) -> list[int]:
        dilation = self.geometry.dilation
        steps = [s * d for s, d in zip(dilation, self.strides(self.source), strict=True)]
        return [dot(tap, steps) for tap in taps]

    def positions(self, count: tuple[int, ...]) -> dict[str, int]:
        return dict(zip(("OD", "OH", "OW"), count, strict=True))

    def pack(self, order: list[int]) -> dict[str, Any]:
        """The packed weights of these taps and the bias, as arguments."""
        self.packed = np.zeros((len(order) + 1, self.w_row), np.float32)
        self.bias, self.order = np.zeros(self.w_row, np.float32), np.array([*order, 0])
        packed = {
            "w": address_of(self.packed),
            "w_row": self.w_row,
            "b": address_of(self.bias),
            "taps": len(order),
        }
        call(
            depthwise.pack(),
            depthwise.PACK,
            self.C,
            weight=address_of(self.w),
            bias=address_of(self.b),
            order=address_of(self.order),
            K=self.K,
            **packed,
        )
        return packed


ALL = pytest.mark.parametrize("name", CONVOLUTIONS)
VECTORS = pytest.mark.parametrize(("C", "L", "V"), [(5, 4, 2), (3, 4, 1)])


@VECTORS
@ALL
def test_forward(name: str, C: int, L: int, V: int) -> None:
    case = Case(name, C)
    y, g = poisoned(case.y.shape), case.geometry
    offsets = np.array(case.offsets(np.ndindex(g.kernel)))
    _, plane, row = y.strides
    call(
        depthwise.forward(L, V, min(2, g.output[2]), 0),
        depthwise.FORWARD,
        3,
        **{**case.source.arguments("x"), "x": case.first(case.source)},
        **case.windows(),
        **case.pack(list(range(case.K))),
        offsets=address_of(offsets),
        **y.arguments("y"),
        z=address_of(y.inside),
        y_forth=plane,
        y_down=row,
        y_along=C,
        C=C,
        **case.positions(g.output),
    )
    np.testing.assert_allclose(y.array, case.y, rtol=0, atol=1e-4)


@VECTORS
@ALL
def test_gradient_of_x_phase_by_phase(name: str, C: int, L: int, V: int) -> None:
    case = Case(name, C)
    dx, small, stride = poisoned(case.x.shape), case.strides(case.dz), case.geometry.stride
    spread = [s * d for s, d in zip(stride, case.strides(dx), strict=True)]
    for phase in phases(case.geometry):
        offsets = np.array([*phase.offsets(small), 0])
        packed = case.pack(phase.taps)
        case.bias[...] = 0
        call(
            depthwise.forward(L, V, min(2, phase.count[2]), 0),
            depthwise.FORWARD,
            3,
            x=address_of(case.dz.inside) + 4 * phase.source(small),
            x_sample=case.dz.strides[0],
            **dict(zip(("x_forth", "x_down", "x_along"), small, strict=True)),
            **packed,
            offsets=address_of(offsets),
            z=address_of(dx.inside) + 4 * phase.target(case.strides(dx)),
            y=address_of(dx.inside) + 4 * phase.target(case.strides(dx)),
            y_sample=dx.strides[0],
            **dict(zip(("y_forth", "y_down", "y_along"), spread, strict=True)),
            C=C,
            **case.positions(phase.count),
        )
    np.testing.assert_allclose(dx.array, case.dx, rtol=0, atol=1e-4)


@VECTORS
@ALL
def test_gradient_of_the_weights(name: str, C: int, L: int, V: int) -> None:
    case = Case(name, C)
    g = case.geometry
    KD, KH, KW = g.kernel
    # blocks of 2 x KW taps, the last of a plane half beyond the kernel
    corners = [(d, h, 0) for d in range(KD) for h in range(0, KH, 2)]
    blocks = np.array(case.offsets(corners))
    _, down, along = case.offsets(np.eye(3, dtype=int))
    heights = -(-KH // 2) * 2
    slots = np.array([(d * heights + h) * KW + w for d, h, w in np.ndindex(g.kernel)])
    threads, samples = 2, 3
    dw = np.zeros((threads, KD * heights * KW, case.w_row), np.float32)
    db = np.zeros((threads, case.w_row), np.float32)
    args = filled(
        depthwise.WEIGHTS,
        **{**case.source.arguments("x"), "x": case.first(case.source)},
        **case.windows(),
        x_tap_down=down,
        x_tap_along=along,
        offsets=address_of(blocks),
        blocks=len(blocks),
        **case.dz.arguments("dz"),
        dw=address_of(dw),
        dw_thread=dw[0].size,
        db=address_of(db),
        db_thread=case.w_row,
        w_row=case.w_row,
        C=C,
        **case.positions(g.output),
    )
    kernel = depthwise.weights(L, V, 2, KW)
    for thread, (first, last) in enumerate(((0, 2), (2, samples))):
        kernel.ctypes(address_of(args), thread, first, last)
    # the rule keeps the gradient: weights first, then the bias
    flat = np.full(C * case.K + C, np.nan, np.float32)
    rule, keep = np.zeros(1, update.ARGS), update.keep(L)
    rule["grad"] = address_of(flat)
    room = np.full(case.K + 16, np.nan, np.float32)
    call(
        depthwise.update(L),
        depthwise.UPDATE,
        C,
        dw=address_of(dw),
        dw_thread=dw[0].size,
        db=address_of(db),
        db_thread=case.w_row,
        w_row=case.w_row,
        threads=threads,
        slots=address_of(slots),
        K=case.K,
        sum=address_of(room),
        function=keep.address,
        function_args=address_of(rule),
        weight_start=0,
        bias_start=C * case.K,
    )
    np.testing.assert_allclose(flat[: C * case.K], case.dw.ravel(), rtol=0, atol=2e-4)
    np.testing.assert_allclose(flat[C * case.K :], case.db, rtol=0, atol=2e-4)
    assert not dw[:, slots, :C].any()
    assert not db[:, :C].any()


def test_the_gradient_is_staged_with_the_slope_of_the_activation() -> None:
    dy, y = Image(drawn(1, 2, 3, 4, 5), 1), Image(drawn(2, 2, 3, 4, 5), 1)
    dz = poisoned((2, 3, 4, 5), 2)
    call(
        depthwise.stage(4, 1),
        depthwise.STAGE,
        2,
        **dy.arguments("dy"),
        **y.arguments("v"),
        **dz.arguments("dz"),
        planes=1,
        rows=4,
        count=15,
    )
    np.testing.assert_array_equal(dz.array, np.where(y.array > 0, dy.array, 0))
