# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Lesson 1: one neuron, and the four equations of backpropagation
#
# A neuron takes an input $x$, weighs it, adds a bias and squashes the sum:
#
# $$a = \sigma(z), \qquad z = w x + b, \qquad \sigma(z) = \frac{1}{1 + e^{-z}}.$$
#
# We ask it to answer 0 to the input 1, and start where it answers almost 1: $w = b = 2$.

# %%
import numpy as np

import tinyconv as tc
from tinyconv import ops
from tinyconv.lessons import slopes
from tinyconv.plots import Figure


def learn(slope_of_cost, steps=300, rate=0.15):
    """Return the neuron's answer after each step of gradient descent."""
    w, b, x, answers = 2.0, 2.0, 1.0, []
    for _ in range(steps):
        a = ops.sigmoid(np.array(w * x + b))[0]
        answers.append(float(a))
        delta = slope_of_cost(a)  # dC/dz
        w, b = w - rate * delta * x, b - rate * delta
    return answers


# %% [markdown]
# With the quadratic cost $C = a^2/2$ the slope is $\partial C/\partial z = a\,\sigma'(z)$, and
# $\sigma' = a(1 - a)$ is small where the neuron is most wrong. With the cross-entropy
# $C = -\ln(1 - a)$ the factor $\sigma'$ cancels and $\partial C/\partial z = a$: the more wrong,
# the faster.

# %%
quadratic = learn(lambda a: a * ops.sigmoid_backward(np.array(1.0), a))
cross_entropy = learn(lambda a: a)

figure = Figure(figsize=(5, 3), layout="constrained")
panel = figure.subplots()
panel.plot(quadratic, label="quadratic cost")
panel.plot(cross_entropy, label="cross-entropy")
panel.set_xlabel("step")
panel.set_ylabel("answer, to be 0")
panel.legend(frameon=False)
figure

# %% [markdown]
# After 100 steps the first has hardly moved, the second is nearly there.

# %%
assert quadratic[100] > 0.85
assert cross_entropy[100] < 0.2

# %% [markdown]
# ## Layers
#
# A layer of neurons is the same with a matrix: $z^l = w^l a^{l-1} + b^l$, $a^l = \sigma(z^l)$.
# Call $\delta^l = \partial C / \partial z^l$ the error of layer $l$. Then
#
# $$\begin{aligned}
# \text{(BP1)}\quad & \delta^L = \nabla_a C \odot \sigma'(z^L) \\
# \text{(BP2)}\quad & \delta^l = \left((w^{l+1})^T \delta^{l+1}\right) \odot \sigma'(z^l) \\
# \text{(BP3)}\quad & \partial C / \partial b^l_j = \delta^l_j \\
# \text{(BP4)}\quad & \partial C / \partial w^l_{jk} = a^{l-1}_k\, \delta^l_j
# \end{aligned}$$
#
# Here they are, line by line, for three inputs, four hidden neurons and two outputs.

# %%
rng = np.random.default_rng(0)
x, y = rng.normal(size=3), np.array([1.0, 0.0])
w1, b1 = rng.normal(size=(4, 3)), rng.normal(size=4)
w2, b2 = rng.normal(size=(2, 4)), rng.normal(size=2)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def forward():
    """Return z and a of both layers."""
    z1 = w1 @ x + b1
    a1 = sigmoid(z1)
    z2 = w2 @ a1 + b2
    return z1, a1, z2, sigmoid(z2)


def cost():
    return float(np.sum((forward()[-1] - y) ** 2) / 2)


z1, a1, z2, a2 = forward()
delta2 = (a2 - y) * a2 * (1 - a2)  # BP1
delta1 = (w2.T @ delta2) * a1 * (1 - a1)  # BP2
db1, db2 = delta1, delta2  # BP3
dw1, dw2 = np.outer(delta1, x), np.outer(delta2, a1)  # BP4

# %% [markdown]
# An equation for a slope can be checked without believing it: move one number by a little, and
# see by how much the cost changes.

# %%
for name, values, equation in (
    ("w1", w1, dw1),
    ("b1", b1, db1),
    ("w2", w2, dw2),
    ("b2", b2, db2),
):
    difference = np.abs(slopes(cost, values) - equation).max()
    print(f"d cost / d {name}: largest difference {difference:.1e}")
    assert difference < 1e-9

# %% [markdown]
# ## The same in the library
#
# Every operation is a pair of functions, forward and backward. The backward functions *are* the
# equations: `sigmoid_backward` multiplies by $\sigma'$, `linear_backward` holds $w^T \delta$ of
# BP2, and BP3 and BP4. A row is a sample, so that one call serves a batch.

# %%
z1, saved1 = ops.linear(x[None], w1, b1)
a1, kept1 = ops.sigmoid(z1)
z2, saved2 = ops.linear(a1, w2, b2)
a2, kept2 = ops.sigmoid(z2)

delta2 = ops.sigmoid_backward(a2 - y, kept2)  # BP1
da1, library_dw2, library_db2 = ops.linear_backward(delta2, saved2)  # BP3, BP4
delta1 = ops.sigmoid_backward(da1, kept1)  # BP2
_, library_dw1, library_db1 = ops.linear_backward(delta1, saved1)

for mine, library in (
    (dw1, library_dw1),
    (db1, library_db1),
    (dw2, library_dw2),
    (db2, library_db2),
):
    assert np.allclose(mine, library, atol=1e-12)

# %% [markdown]
# And a network does all of it: `loss_and_grads` returns the gradient of every parameter.

# %%
net = tc.Sequential([tc.Linear(3, 4), tc.Sigmoid(), tc.Linear(4, 2)], seed=0, dtype="float64")
net.load_state_dict({"0.weight": w1, "0.bias": b1, "2.weight": w2, "2.bias": b2})
loss, grads = net.loss_and_grads(x[None], np.array([0]))
print({name: grad.shape for name, grad in grads.items()})
