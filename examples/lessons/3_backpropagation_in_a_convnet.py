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
# convolutional layer, a max-pooling layer and a fully connected softmax layer? We solve it in
# equations, then with numbers on a 4x4 image that can be followed with a pencil, then with the
# library; every step is checked.
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
# ## The four equations
#
# There are three errors now: $\delta^2 = \partial C/\partial z^2$ of the last layer,
# $\delta^1 = \partial C/\partial s$ behind the pooling, $\epsilon = \partial C/\partial z$ before
# it.
#
# **BP1.** Softmax and log-likelihood together leave no slope of an activation:
#
# $$\delta^2_k = a^2_k - [k = y].$$
#
# **BP2.** From the last layer to the pooled one as ever, a sum over what each neuron feeds:
#
# $$\delta^1_{f;uv} = \sigma'(s_{f;uv}) \sum_k W_{k;fuv}\, \delta^2_k.$$
#
# Through the pooling an error goes to where the maximum came from. If the network moved the other
# inputs of the region a little, nothing would change:
#
# $$\epsilon_{f;jk} = \begin{cases} \delta^1_{f;uv} & z_{f;jk} \text{ is the maximum of its }
# R_{uv} \\ 0 & \text{otherwise.} \end{cases}$$
#
# For **L2 pooling**, $p = \sqrt{\sum z^2}$ over the region, everyone has a share, in proportion to
# its size, since $\partial p/\partial z = z/p$:
#
# $$\epsilon_{f;jk} = \delta^1_{f;uv}\; z_{f;jk} / p_{f;uv}.$$
#
# If a layer lies below the convolution, its error is
# $\sigma'(z^0_{jk}) \sum_f \sum_{l,m} w_{f;lm}\, \epsilon_{f;\,j-l,\,k-m}$: each pixel collects
# from every output that it took part in.
#
# **BP3.** All places of a map share one bias, so their errors are added:
#
# $$\partial C/\partial b_f = \sum_{u,v} \delta^1_{f;uv}, \qquad
# \partial C/\partial B_k = \delta^2_k.$$
#
# **BP4.** They share the weights as well. Each place contributes input times error:
#
# $$\partial C/\partial w_{f;lm} = \sum_{j,k} \epsilon_{f;jk}\, a^0_{j+l,\,k+m}, \qquad
# \partial C/\partial W_{k;fuv} = a^1_{f;uv}\, \delta^2_k.$$
#
# The first of these is again a convolution, of the image with the errors.
#
# ## By hand: forwards
#
# A 4x4 image, two 3x3 kernels, a 2x2 pool over each 2x2 map, ReLU, two classes.

# %%
import numpy as np
from lesson import show, slopes
from matplotlib.figure import Figure

import tinyconv as tc
from tinyconv import ops

image = np.array(
    [
        [1.0, 0.0, 2.0, 1.0],
        [0.0, 1.0, 0.0, 0.0],
        [2.0, 0.0, 1.0, 1.0],
        [1.0, 1.0, 0.0, 2.0],
    ]
)
kernels = np.array(
    [
        [[1.0, 0.0, -1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 1.0]],
        [[0.0, 1.0, 0.0], [1.0, -1.0, 1.0], [0.0, 1.0, 0.0]],
    ]
)
b = np.array([-1.0, -4.0])
W = np.array([[1.0, -1.0], [0.0, 1.0]])
B = np.zeros(2)
label = 0

# %% [markdown]
# **Convolution.** The lower right window is
# $\begin{pmatrix}1&0&0\\0&1&1\\1&0&2\end{pmatrix}$; with the first kernel it gives
# $1 + 1 - 1 + 2 = 3$.

# %%
x = image[None, None]
z, conv_saved = ops.conv2d(x, kernels[:, None])
print(z[0])
assert z[0, 0].tolist() == [[-1, 0], [-1, 3]]
assert z[0, 1].tolist() == [[-1, 4], [5, 0]]

# %% [markdown]
# **Pooling.** The maximum of the first map is 3, lower right; of the second 5, lower left.
# **Bias and ReLU:** $a^1 = (3 - 1,\; 5 - 4) = (2, 1)$.

# %%
p, pool_saved = ops.max_pool2d(z, 2)
s = p + b.reshape(2, 1, 1)
a1, relu_saved = ops.relu(s)
assert p.ravel().tolist() == [3, 5]
assert a1.ravel().tolist() == [2, 1]

# %% [markdown]
# **Fully connected:** $z^2 = (2 - 1,\; 1) = (1, 1)$. **Softmax** of two equal numbers is
# $(\tfrac12, \tfrac12)$, and the cost of label 0 is $\ln 2$.

# %%
z2, linear_saved = ops.linear(a1.reshape(1, 2), W, B)
loss, loss_saved = ops.cross_entropy(z2, np.array([label]))
assert z2[0].tolist() == [1, 1]
assert np.isclose(float(loss), np.log(2))

# %% [markdown]
# ## By hand: backwards
#
# Before each step, a way to check it: move the numbers in question, and look at the cost.


# %%
def cost_from_z2(z2):
    return float(ops.cross_entropy(z2, np.array([label]))[0])


def cost_from_s(s):
    return cost_from_z2(ops.linear(ops.relu(s)[0].reshape(1, 2), W, B)[0])


def cost_from_z(z):
    return cost_from_s(ops.max_pool2d(z, 2)[0] + b.reshape(2, 1, 1))


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
# **BP3 and BP4 of the last layer.** $\partial C/\partial B = (-\tfrac12, \tfrac12)$ and
# $\partial C/\partial W = \delta^2 (a^1)^T =
# \begin{pmatrix}-1&-\tfrac12\\1&\tfrac12\end{pmatrix}$.
#
# **BP2.** $W^T \delta^2 = (-\tfrac12,\; \tfrac12 + \tfrac12) = (-\tfrac12, 1)$. Both ReLUs are
# open, $\sigma' = 1$, so this is $\delta^1$.

# %%
da1, dW, dB = ops.linear_backward(delta2, linear_saved)
delta1 = ops.relu_backward(da1.reshape(a1.shape), relu_saved)
assert np.allclose(dW, [[-1, -0.5], [1, 0.5]])
assert np.allclose(delta1.ravel(), [-0.5, 1])
check("BP2 to s", delta1, slopes(lambda: cost_from_s(s), s))
check("BP4 for W", dW, slopes(cost, W))
check("BP3 for B", dB, slopes(cost, B))

# %% [markdown]
# **BP2 through the pooling.** The errors go to the two winners, the others get nothing.

# %%
epsilon = ops.max_pool2d_backward(delta1, pool_saved)
assert np.allclose(epsilon[0], [[[0, 0], [0, -0.5]], [[0, 0], [1, 0]]])
check("BP2 to z", epsilon, slopes(lambda: cost_from_z(z), z))

# %% [markdown]
# **BP3 of the convolution.** One pooled place a map: $\partial C/\partial b = (-\tfrac12, 1)$.
#
# **BP4 of the convolution.** Only the winners contribute: $-\tfrac12$ times the lower right window
# for the first kernel, 1 times the lower left one for the second.

# %%
db = delta1.sum(axis=(0, 2, 3))
dx, dw, _ = ops.conv2d_backward(epsilon, conv_saved)
assert np.allclose(dw[0, 0], -0.5 * image[1:4, 1:4])
assert np.allclose(dw[1, 0], image[1:4, 0:3])
assert np.allclose(dw[1, 0], [[0, 1, 0], [2, 0, 1], [1, 1, 0]])
check("BP3 for b", db, slopes(cost, b))
check("BP4 for w", dw[:, 0], slopes(cost, kernels))

# %% [markdown]
# **To a layer below.** Each winner paints its kernel, times its error, where its window was.

# %%
painted = np.zeros((4, 4))
painted[1:4, 1:4] += -0.5 * kernels[0]
painted[1:4, 0:3] += 1.0 * kernels[1]
assert np.allclose(dx[0, 0], painted)
check("error of the image", dx[0, 0], slopes(cost, image))

# %%
figure = Figure(figsize=(8, 4.2), layout="constrained")
panels = figure.subplots(2, 4)
pictures = {
    "image": image,
    "map 1": z[0, 0],
    "map 2": z[0, 1],
    "pooled, +b, ReLU": a1.reshape(1, 2),
    "error of the image": dx[0, 0],
    "error of map 1": epsilon[0, 0],
    "error of map 2": epsilon[0, 1],
    "its error": delta1.reshape(1, 2),
}
for panel, (title, picture) in zip(panels.ravel(), pictures.items(), strict=True):
    limit = np.abs(picture).max()
    panel.imshow(picture, cmap="RdBu", vmin=-1.5 * limit, vmax=1.5 * limit)
    panel.set_title(title, fontsize=9)
    panel.set_xticks([])
    panel.set_yticks([])
    for row, numbers in enumerate(picture):
        for column, number in enumerate(numbers):
            panel.text(column, row, f"{number:g}", ha="center", va="center", fontsize=9)
show(figure, "3-forwards-and-backwards")

# %% [markdown]
# ## L2 pooling
#
# A region $\begin{pmatrix}1&2\\2&4\end{pmatrix}$ pools to $\sqrt{1 + 4 + 4 + 16} = 5$. An error of
# 10 is shared out as $10 z / 5$: $\begin{pmatrix}2&4\\4&8\end{pmatrix}$.

# %%
region = np.array([[[[1.0, 2.0], [2.0, 4.0]]]])
pooled, l2_saved = ops.l2_pool2d(region, 2)
shares = ops.l2_pool2d_backward(np.array([[[[10.0]]]]), l2_saved)
assert pooled.item() == 5
assert shares[0, 0].tolist() == [[2, 4], [4, 8]]
check("L2 pooling", shares, slopes(lambda: 10 * float(ops.l2_pool2d(region, 2)[0].item()), region))

# %% [markdown]
# In the network of above only the step through the pooling changes.

# %%
p, l2_saved = ops.l2_pool2d(z, 2)
s = p + b.reshape(2, 1, 1)
a1, relu_saved = ops.relu(s)
z2, linear_saved = ops.linear(a1.reshape(1, 2), W, B)
_, loss_saved = ops.cross_entropy(z2, np.array([label]))
delta2 = ops.cross_entropy_backward(1.0, loss_saved)
delta1 = ops.relu_backward(
    ops.linear_backward(delta2, linear_saved)[0].reshape(p.shape), relu_saved
)
epsilon = ops.l2_pool2d_backward(delta1, l2_saved)
assert np.allclose(epsilon, delta1 * z / p)


def cost_with_l2():
    z = ops.conv2d(x, kernels[:, None])[0]
    return cost_from_s(ops.l2_pool2d(z, 2)[0] + b.reshape(2, 1, 1))


check("BP4 for w", ops.conv2d_backward(epsilon, conv_saved)[1][:, 0], slopes(cost_with_l2, kernels))

# %% [markdown]
# ## A network of the library
#
# It adds the bias before the pooling. A maximum does not mind, $\max(z) + b = \max(z + b)$, so the
# gradients are those from above.

# %%
net = tc.Sequential(
    [tc.Conv2d(1, 2, 3), tc.MaxPool2d(2), tc.ReLU(), tc.Flatten(), tc.Linear(2, 2)],
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
