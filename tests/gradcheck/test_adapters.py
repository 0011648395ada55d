"""Functions of PyTorch and JAX, through the adapters; run with ``-m oracle``."""

import importlib.util

import numpy as np
import pytest

pytestmark = pytest.mark.oracle
has_jax = importlib.util.find_spec("jax") is not None
needs_jax = pytest.mark.skipif(not has_jax, reason='needs JAX: pip install "tinyconv[oracle]"')


@pytest.fixture
def check(torch):
    from tinyconv.gradcheck.torch import check

    torch.manual_seed(0)
    return check


def test_a_function_of_tensors_in_all_modes(torch, check):
    both = {"forward_mode": True, "second_order": True}
    report = check(lambda p: torch.tanh(p["x"]) @ p["w"], [{"x": torch.randn(3, 4),
                   "w": torch.randn(4, 2)}], **both)  # fmt: skip
    assert (report.verdict, report.order) == ("ok", 2), str(report)
    z = torch.randn(3, dtype=torch.complex128)
    assert check(lambda z: z * z.conj() * z, [z], **both).ok
    assert check(lambda x, k: x[k], [torch.randn(5), torch.tensor([0, 3, 3])], **both).ok


def test_tensors_that_require_grad_are_checked_alone(torch, check):
    report = check(lambda x, y: x * y, [torch.randn(3, requires_grad=True), torch.randn(3)])
    assert [row.name for row in report.tensors] == ["inputs[0]"]


def test_a_module_with_its_parameters_and_buffers(torch, check):
    nn = torch.nn
    net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Tanh())
    before = {k: v.clone() for k, v in net.state_dict().items()}
    report = check(net, [torch.randn(5, 4)], second_order=True, samples="all")
    assert report.ok, str(report)
    names = ["dy", "inputs[0]", "0.weight", "0.bias", "1.weight", "1.bias"]
    assert [row.name for row in report.tensors] == names
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_a_wrong_autograd_function(torch, check):
    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, dy):
            return dy * ctx.saved_tensors[0]

    report = check(Square, [torch.randn(3, 4)])
    assert report.hint.startswith("inputs[0]: the gradient is 0.5 times what it should be, ")


def test_an_output_that_does_not_depend_on_its_input(torch, check):
    report = check(lambda x, y: x.detach() * y, [torch.randn(3), torch.randn(3)])
    assert report.verdict == "wrong"
    assert report.hint.startswith("inputs[0]: the gradient is zero everywhere")


@needs_jax
def test_jax_functions_in_all_modes():
    import jax.numpy as jnp

    from tinyconv.gradcheck.jax import check

    both = {"forward_mode": True, "second_order": True}
    p = {"x": jnp.linspace(-1, 1, 6).reshape(2, 3), "w": jnp.linspace(0, 1, 3)}
    report = check(lambda p, k: {"y": jnp.tanh(p["x"] * p["w"]) ** k, "k": k}, [p, 3], **both)
    assert (report.verdict, report.order) == ("ok", 2), str(report)
    assert {row.name for row in report.tensors} >= {"inputs[0]['x']", "inputs[0]['w']"}
    z = np.array([1 + 2j, -0.5j, 0.3])
    assert check(lambda z: z * jnp.conj(z) * z, [z], **both).ok


@needs_jax
def test_wrong_custom_rules_of_jax():
    import jax
    import jax.numpy as jnp

    from tinyconv.gradcheck.jax import check

    @jax.custom_vjp
    def sine(x):
        return jnp.sin(x)

    sine.defvjp(lambda x: (jnp.sin(x), x), lambda x, dy: (-dy * jnp.cos(x),))
    report = check(sine, [jnp.arange(4.0)])
    assert report.hint.endswith("-1 times what it should be: the sign is flipped")

    @jax.custom_jvp
    def cube(x):
        return x**3

    cube.defjvp(lambda x, t: (x[0] ** 3, 2 * x[0] ** 2 * t[0]))
    report = check(cube, [jnp.arange(1.0, 4.0)], forward_mode=True)
    assert report.hint.startswith("inputs[0]: the tangent is 0.666667 times what it should be")
