# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Lesson 3: the equations of backpropagation in a convolutional network
#
# Chapter 6 of Nielsen's book leaves a problem: how do BP1 to BP4 change for a network with a
# convolutional layer, a max-pooling layer and a fully connected softmax layer? We derive them by
# the chain rule, work them out on a 4x4 image that can be followed with a pencil, and compare with
# the library. `tinyconv explore` shows such a network with numbers that you can change.
#
# ## The network
#
# An image $a^0$; kernels $w_f$, one for each feature map $f$; pooling; a bias $b_f$ for each map;
# an activation $\sigma$; a fully connected layer $W$, $B$; softmax.
#
# $$\begin{aligned}
# z_{f;jk} &= \sum_{l,m} w_{f;lm}\, a^0_{j+l,\,k+m} && \text{convolution} \\
# p_{f;uv} &= \max_{(j,k) \in R_{uv}} z_{f;jk} && \text{pooling over the region } R_{uv} \\
# a^1_{f;uv} &= \sigma(s_{f;uv}), \quad s_{f;uv} = p_{f;uv} + b_f && \text{activation} \\
# z^2_k &= \sum_{f,u,v} W_{k;fuv}\, a^1_{f;uv} + B_k && \text{fully connected} \\
# a^2_k &= e^{z^2_k} \Big/ \sum_i e^{z^2_i}, \quad C = -\ln a^2_y && \text{softmax, label } y
# \end{aligned}$$
#
# There are three errors now: $\delta^2 = \partial C/\partial z^2$ of the last layer,
# $\delta^1 = \partial C/\partial s$ behind the pooling, $\epsilon = \partial C/\partial z$ before
# it. One rule gives all that follows. If a number $t$ reaches the cost through the numbers
# $r_1, r_2, \dots$ and through nothing else, then
#
# $$\frac{\partial C}{\partial t} = \sum_i \frac{\partial C}{\partial r_i}
# \frac{\partial r_i}{\partial t}.$$
#
# So for each $t$ we ask two questions: **what does it feed**, and **with which slope**?

# %% [markdown]
# ## BP1, derived
#
# The cost is $C = -\ln a^2_y = -z^2_y + \ln \sum_i e^{z^2_i}$. The first term has slope $-1$ where
# $k = y$ and 0 elsewhere. The second has slope $e^{z^2_k} / \sum_i e^{z^2_i} = a^2_k$. Hence
#
# $$\delta^2_k = a^2_k - [k = y]. \tag{BP1}$$
#
# The slope of the softmax has cancelled against that of the logarithm: an output that is wrong
# with certainty has an error of size 1, however flat the softmax is there.
#
# ## BP2, derived
#
# **Through the fully connected layer.** What does $a^1_{f;uv}$ feed? Every $z^2_k$, with slope
# $W_{k;fuv}$. What does $s_{f;uv}$ feed? $a^1_{f;uv}$ alone, with slope $\sigma'(s_{f;uv})$. So
#
# $$\delta^1_{f;uv} = \sigma'(s_{f;uv}) \sum_k W_{k;fuv}\, \delta^2_k. \tag{BP2}$$
#
# **Through the pooling.** What does $z_{f;jk}$ feed? Every $p_{f;uv}$ whose region holds $(j, k)$,
# and where regions overlap there are several. With which slope? If $z_{f;jk}$ is the largest of
# the region, $p$ moves as it does: slope 1. If it is not, a small change of it changes nothing:
# slope 0. So
#
# $$\epsilon_{f;jk} = \sum_{u,v:\; (j,k) \in R_{uv}} \delta^1_{f;uv}
# \,[z_{f;jk} \text{ is the maximum of } R_{uv}]. \tag{BP2}$$
#
# **Through the convolution**, if a layer lies below. What does the pixel $a^0_{hi}$ feed? Every
# output $z_{f;jk}$ whose window it lies in, that is with $h = j + l$ and $i = k + m$ for some
# weight $w_{f;lm}$, which is the slope. We go through the outputs and put $l = h - j$,
# $m = i - k$:
#
# $$\frac{\partial C}{\partial a^0_{hi}} = \sum_f \sum_{j,k} \epsilon_{f;jk}\; w_{f;\,h-j,\,i-k}.
# \tag{BP2}$$
#
# The index of the output stands in that of the weight with a *minus*: as $j$ goes up, we go
# through the kernel backwards. That is the flipped kernel of which everybody speaks. Nobody
# flips it; it comes from asking the question from the pixel's side.
#
# ## BP3 and BP4, derived
#
# What does $b_f$ feed? Every $s_{f;uv}$ of its map, with slope 1. What does $w_{f;lm}$ feed? Every
# $z_{f;jk}$ of its map, with the slope $a^0_{j+l,\,k+m}$ of the pixel that it met there. Because
# places *share* it, a sum stands where a dense layer has a single term:
#
# $$\frac{\partial C}{\partial b_f} = \sum_{u,v} \delta^1_{f;uv}, \qquad
# \frac{\partial C}{\partial B_k} = \delta^2_k, \tag{BP3}$$
#
# $$\frac{\partial C}{\partial w_{f;lm}} = \sum_{j,k} \epsilon_{f;jk}\, a^0_{j+l,\,k+m}, \qquad
# \frac{\partial C}{\partial W_{k;fuv}} = \delta^2_k\, a^1_{f;uv}. \tag{BP4}$$
#
# ## By hand: forwards
#
# A 4x4 image, two 2x2 kernels, two pooling regions of 3x2 in each 3x3 map, which overlap in the
# middle column; ReLU; two classes. No kernel equals its flip or its transpose: an equation with
# the indices the wrong way round would give other numbers.

# %%
import numpy as np

import tinyconv as tc
from tinyconv import ops
from tinyconv.lessons import slopes
from tinyconv.plots import Figure

image = np.array(
    [
        [2.0, 0.0, 1.0, 1.0],
        [1.0, 1.0, 1.0, 2.0],
        [0.0, 0.0, 1.0, 1.0],
        [1.0, 1.0, 2.0, 0.0],
    ]
)
kernels = np.array([[[-1.0, 0.0], [1.0, 1.0]], [[2.0, -1.0], [0.0, -1.0]]])
b = np.array([-1.0, -2.0])
W = np.array([[1.0, 0.0, -1.0, 2.0], [-1.0, 1.0, 1.0, -1.0]])
B = np.zeros(2)
label = 0

for kernel in kernels:
    assert (kernel != kernel.T).any()
    assert (kernel != kernel[::-1, ::-1]).any()

# %% [markdown]
# **Convolution.** The window in the middle of the last row is
# $\begin{pmatrix}0&1\\1&2\end{pmatrix}$; with the first kernel it gives
# $-1\cdot0 + 0\cdot1 + 1\cdot1 + 1\cdot2 = 3$.

# %%
x = image[None, None]
z, conv_saved = ops.conv2d(x, kernels[:, None])
print(z[0])
assert z[0, 0].tolist() == [[0, 2, 2], [-1, 0, 1], [2, 3, 1]]
assert z[0, 1].tolist() == [[3, -2, -1], [1, 0, -1], [-1, -3, 1]]

# %% [markdown]
# **Pooling.** In the first map the 3 of the middle column is the maximum of *both* regions. In the
# second map they have their own: 3 upper left, 1 lower right.
#
# **Bias and ReLU.** $s = (3-1,\; 3-1)$ and $(3-2,\; 1-2)$, so $a^1 = (2, 2)$ and $(1, 0)$: the
# last ReLU is shut.

# %%
p, pool_saved = ops.max_pool2d(z, (3, 2), stride=1)
s = p + b.reshape(2, 1, 1)
a1, relu_saved = ops.relu(s)
assert p.ravel().tolist() == [3, 3, 3, 1]
assert a1.ravel().tolist() == [2, 2, 1, 0]

# %% [markdown]
# **Fully connected:** $z^2 = (2 - 1,\; -2 + 2 + 1) = (1, 1)$. **Softmax** of two equal numbers is
# $(\tfrac12, \tfrac12)$, and the cost of label 0 is $\ln 2$.

# %%
z2, linear_saved = ops.linear(a1.reshape(1, 4), W, B)
loss, loss_saved = ops.cross_entropy(z2, np.array([label]))
assert z2[0].tolist() == [1, 1]
assert np.isclose(float(loss), np.log(2))

# %% [markdown]
# ## By hand: backwards
#
# Each step is checked without believing it: move the numbers in question a little, and look at the
# cost.


# %%
def cost_from_z2(z2):
    return float(ops.cross_entropy(z2, np.array([label]))[0])


def cost_from_s(s):
    return cost_from_z2(ops.linear(ops.relu(s)[0].reshape(1, 4), W, B)[0])


def cost_from_z(z):
    return cost_from_s(ops.max_pool2d(z, (3, 2), stride=1)[0] + b.reshape(2, 1, 1))


def cost():
    return cost_from_z(ops.conv2d(x, kernels[:, None])[0])


def check(what, equation, measured):
    difference = np.abs(equation - measured).max()
    print(f"{what}: largest difference {difference:.1e}")
    assert difference < 1e-9


# %% [markdown]
# **BP1.** $\delta^2 = (\tfrac12, \tfrac12) - (1, 0) = (-\tfrac12, \tfrac12)$.

# %%
delta2 = ops.cross_entropy_backward(1.0, loss_saved)
assert np.allclose(delta2, [[-0.5, 0.5]])
check("BP1", delta2, slopes(lambda: cost_from_z2(z2), z2))

# %% [markdown]
# **BP3 and BP4 of the last layer.** $\partial C/\partial B = \delta^2$, and each row of
# $\partial C/\partial W$ is $\delta^2_k\,(2, 2, 1, 0)$.
#
# **BP2.** $W^T \delta^2 = (-\tfrac12-\tfrac12,\; \tfrac12,\; \tfrac12+\tfrac12,\; -1-\tfrac12)
# = (-1, \tfrac12, 1, -\tfrac32)$. Three ReLUs are open, $\sigma' = 1$; the last is shut,
# $\sigma' = 0$. So $\delta^1 = (-1, \tfrac12)$ and $(1, 0)$: the largest of the four errors goes
# no further.

# %%
da1, dW, dB = ops.linear_backward(delta2, linear_saved)
delta1 = ops.relu_backward(da1.reshape(a1.shape), relu_saved)
assert np.allclose(dW, [[-1, -1, -0.5, 0], [1, 1, 0.5, 0]])
assert np.allclose(da1, [[-1, 0.5, 1, -1.5]])
assert np.allclose(delta1.ravel(), [-1, 0.5, 1, 0])
check("BP2 to s", delta1, slopes(lambda: cost_from_s(s), s))
check("BP4 for W", dW, slopes(cost, W))
check("BP3 for B", dB, slopes(cost, B))

# %% [markdown]
# **BP2 through the pooling.** The 3 in the first map won twice, so both errors come to it:
# $-1 + \tfrac12 = -\tfrac12$. In the second map the 3 gets its 1, and the other winner gets 0.

# %%
epsilon = ops.max_pool2d_backward(delta1, pool_saved)
assert np.allclose(epsilon[0, 0], [[0, 0, 0], [0, 0, 0], [0, -0.5, 0]])
assert np.allclose(epsilon[0, 1], [[1, 0, 0], [0, 0, 0], [0, 0, 0]])
check("BP2 to z", epsilon, slopes(lambda: cost_from_z(z), z))

# %% [markdown]
# **BP3 of the convolution**, a sum over the two cells of a map:
# $\partial C/\partial b = (-1 + \tfrac12,\; 1 + 0) = (-\tfrac12, 1)$.
#
# **BP4 of the convolution.** $-\tfrac12$ times the window of the first winner, 1 times that of the
# second: $-\tfrac12 \begin{pmatrix}0&1\\1&2\end{pmatrix}$ and
# $\begin{pmatrix}2&0\\1&1\end{pmatrix}$.

# %%
db = delta1.sum(axis=(0, 2, 3))
dx, dw, _ = ops.conv2d_backward(epsilon, conv_saved)
assert np.allclose(db, [-0.5, 1])
assert np.allclose(dw[0, 0], [[0, -0.5], [-0.5, -1]])
assert np.allclose(dw[1, 0], [[2, 0], [1, 1]])
check("BP3 for b", db, slopes(cost, b))
check("BP4 for w", dw[:, 0], slopes(cost, kernels))

# %% [markdown]
# **BP2 to a layer below.** Each winner paints its kernel, unflipped, times its error, where its
# window was. Seen from the pixel it is the flipped kernel: the two lines below compute the same.

# %%
painted = np.zeros((4, 4))
painted[2:4, 1:3] += -0.5 * kernels[0]
painted[0:2, 0:2] += 1.0 * kernels[1]
collected = np.zeros((4, 4))
for kernel, error in zip(kernels, epsilon[0], strict=True):
    padded = np.pad(error, 1)
    for h in range(4):
        for i in range(4):
            collected[h, i] += np.sum(kernel[::-1, ::-1] * padded[h : h + 2, i : i + 2])
assert np.allclose(dx[0, 0], painted)
assert np.allclose(dx[0, 0], collected)
check("error of the image", dx[0, 0], slopes(cost, image))

# %% [markdown]
# Without the flip the result is another one, and the check says so:

# %%
unflipped = np.zeros((4, 4))
for kernel, error in zip(kernels, epsilon[0], strict=True):
    padded = np.pad(error, 1)
    for h in range(4):
        for i in range(4):
            unflipped[h, i] += np.sum(kernel * padded[h : h + 2, i : i + 2])
print("largest difference without the flip:", np.abs(unflipped - slopes(cost, image)).max())
assert np.abs(unflipped - dx[0, 0]).max() > 0.4

# %%
pictures = {
    "image": image,
    "map 0": z[0, 0],
    "map 1": z[0, 1],
    "pooled, +b, ReLU": a1.reshape(2, 2),
    "error of the image": dx[0, 0],
    "error of map 0": epsilon[0, 0],
    "error of map 1": epsilon[0, 1],
    "error behind the pool": delta1.reshape(2, 2),
}
figure = Figure(figsize=(8.5, 4.4), layout="constrained")
panels = figure.subplots(2, 4)
for panel, (title, picture) in zip(panels.ravel(), pictures.items(), strict=True):
    drawn = panel.imshow(picture, cmap="RdBu_r", vmin=-3, vmax=3)  # one scale for all
    panel.set_title(title, fontsize=9)
    panel.set_xticks([])
    panel.set_yticks([])
    for row, numbers in enumerate(picture):
        for column, number in enumerate(numbers):
            ink = "white" if abs(number) > 1.5 else "black"
            panel.text(column, row, f"{number:g}", ha="center", va="center", color=ink, fontsize=9)
figure.colorbar(drawn, ax=panels, shrink=0.7)
figure

# %% [markdown]
# ## L2 pooling
#
# Now $p_{f;uv} = \sqrt{\sum z_{f;jk}^2}$ over the region. Only one slope changes: by the chain
# rule $\partial p/\partial z_{f;jk} = 2 z_{f;jk} \big/ \left(2\sqrt{\sum z^2}\right)
# = z_{f;jk}/p_{f;uv}$. Everyone has a share, in proportion to its size:
#
# $$\epsilon_{f;jk} = \sum_{u,v:\; (j,k) \in R_{uv}} \delta^1_{f;uv}\;
# \frac{z_{f;jk}}{p_{f;uv}}. \tag{BP2}$$
#
# A region $\begin{pmatrix}1&2\\2&4\end{pmatrix}$ pools to $\sqrt{1 + 4 + 4 + 16} = 5$. An error of
# 10 is shared out as $10 z / 5$: $\begin{pmatrix}2&4\\4&8\end{pmatrix}$.

# %%
region = np.array([[[[1.0, 2.0], [2.0, 4.0]]]])
pooled, l2_saved = ops.l2_pool2d(region, 2)
shares = ops.l2_pool2d_backward(np.array([[[[10.0]]]]), l2_saved)
assert pooled.item() == 5
assert shares[0, 0].tolist() == [[2, 4], [4, 8]]
check("L2 pooling", shares, slopes(lambda: 10 * ops.l2_pool2d(region, 2)[0].item(), region))

# %% [markdown]
# In the network, with the biases $(-4, -\tfrac92)$: the first map's regions are
# $\begin{pmatrix}0&2\\-1&0\\2&3\end{pmatrix}$ and $\begin{pmatrix}2&2\\0&1\\3&1\end{pmatrix}$, so
# $p = (\sqrt{18}, \sqrt{19})$; the second's give $p = (\sqrt{24}, \sqrt{16})$, and since
# $4 - \tfrac92 < 0$ the last ReLU is shut again. The middle column belongs to both regions: the 3
# of map 0 collects $3\,(\delta^1_0/\sqrt{18} + \delta^1_1/\sqrt{19})$. Now *all* places of a map
# have an error, and the sums of BP4 run over nine terms.

# %%
b[:] = -4, -4.5
p, l2_saved = ops.l2_pool2d(z, (3, 2), stride=1)
assert np.allclose(p.ravel() ** 2, [18, 19, 24, 16])
s = p + b.reshape(2, 1, 1)
a1, relu_saved = ops.relu(s)
z2, linear_saved = ops.linear(a1.reshape(1, 4), W, B)
_, loss_saved = ops.cross_entropy(z2, np.array([label]))
delta2 = ops.cross_entropy_backward(1.0, loss_saved)
da1, *_ = ops.linear_backward(delta2, linear_saved)
delta1 = ops.relu_backward(da1.reshape(p.shape), relu_saved)
epsilon = ops.l2_pool2d_backward(delta1, l2_saved)
assert delta1[0, 1, 0, 1] == 0
assert np.isclose(
    epsilon[0, 0, 2, 1], 3 * (delta1[0, 0, 0, 0] / 18**0.5 + delta1[0, 0, 0, 1] / 19**0.5)
)
dw_l2 = np.zeros((2, 2, 2))
for f in range(2):
    for j in range(3):
        for k in range(3):
            dw_l2[f] += epsilon[0, f, j, k] * image[j : j + 2, k : k + 2]
assert np.allclose(ops.conv2d_backward(epsilon, conv_saved)[1][:, 0], dw_l2)
print("error of map 0:")
print(epsilon[0, 0].round(3))


def cost_with_l2():
    z = ops.conv2d(x, kernels[:, None])[0]
    return cost_from_s(ops.l2_pool2d(z, (3, 2), stride=1)[0] + b.reshape(2, 1, 1))


check("BP4 for w", dw_l2, slopes(cost_with_l2, kernels))
b[:] = -1, -2

# %% [markdown]
# ## A network of the library
#
# It adds the bias before the pooling. A maximum does not mind, $\max(z) + b = \max(z + b)$, so the
# gradients are those from above.

# %%
net = tc.Sequential(
    [tc.Conv2d(1, 2, 2), tc.MaxPool2d((3, 2), stride=1), tc.ReLU(), tc.Flatten(), tc.Linear(4, 2)],
    dtype="float64",
    input_shape=(1, 4, 4),
)
net.load_state_dict({"0.weight": kernels[:, None], "0.bias": b, "4.weight": W, "4.bias": B})
value, grads = net.loss_and_grads(x, np.array([label]))
assert np.isclose(value, np.log(2))
assert np.allclose(grads["0.weight"], dw)
assert np.allclose(grads["0.bias"], db)
assert np.allclose(grads["4.weight"], dW)
assert np.allclose(grads["4.bias"], dB)
assert np.allclose(net.layers[0].dx, dx)
print("the network's gradients are those worked out by hand")
