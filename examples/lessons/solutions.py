# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Solutions of the exercises
#
# One way to write each; the checker takes every other one that gives the same numbers.

# %%
import numpy as np

from tinyconv.lessons import grade

# %% [markdown]
# ## Lesson 1
#
# **A neuron.** $a = \sigma(z)$ with $z = w x + b$ and $\sigma' = \sigma (1 - \sigma)$.


# %%
def neuron_backward(da, x, w, b):
    a = 1 / (1 + np.exp(-(w * x + b)))
    dz = da * a * (1 - a)
    return dz * w, dz * x, dz


print(grade("neuron", neuron_backward))

# %% [markdown]
# **A layer.** $z = x w^T + b$; each row of $x$ is a sample.


# %%
def layer_backward(dz, x, w, b):
    return dz @ w, dz.T @ x, dz.sum(axis=0)


print(grade("layer", layer_backward))

# %% [markdown]
# ## Lesson 2
#
# **A convolution.** $y_{pq} = \sum_{i,j} w_{ij}\, x_{p+i,\,q+j}$. Ask of each number what it feeds:
# the pixel, every output whose window it lies in; the weight, every output.


# %%
def convolution_backward(dy, x, w):
    dx = np.zeros_like(x)
    dw = np.zeros_like(w)
    for p in range(dy.shape[0]):
        for q in range(dy.shape[1]):
            window = np.s_[p : p + w.shape[0], q : q + w.shape[1]]
            dw += dy[p, q] * x[window]
            dx[window] += dy[p, q] * w
    return dx, dw


print(grade("convolution", convolution_backward))

# %% [markdown]
# ## Lesson 3
#
# **Max-pooling whose windows overlap.** $y_{pq}$ is the maximum of `x[p : p + 2, q : q + 2]`.


# %%
def max_pool_backward(dy, x):
    dx = np.zeros_like(x)
    for p, q in np.ndindex(dy.shape):
        i, j = divmod(int(x[p : p + 2, q : q + 2].argmax()), 2)
        dx[p + i, q + j] += dy[p, q]
    return dx


print(grade("overlapping max-pooling", max_pool_backward))

# %% [markdown]
# **L2 pooling.** $y_{pq} = \sqrt{\sum x^2}$ over `x[2 * p : 2 * p + 2, 2 * q : 2 * q + 2]`.


# %%
def l2_pool_backward(dy, x):
    dx = np.zeros_like(x)
    for p, q in np.ndindex(dy.shape):
        window = np.s_[2 * p : 2 * p + 2, 2 * q : 2 * q + 2]
        dx[window] = dy[p, q] * x[window] / np.sqrt(np.sum(x[window] ** 2))
    return dx


print(grade("L2 pooling", l2_pool_backward))

# %% [markdown]
# ## Lesson 4
#
# **Softplus**, $y = \ln(1 + e^x)$: an activation that does not saturate on one side. What is its
# slope, and where have you met it?


# %%
def softplus_backward(dy, x):
    return dy / (1 + np.exp(-x))  # the sigmoid


print(grade("softplus", softplus_backward))

# %% [markdown]
# ## Lesson 5
#
# **Upsampling.** Each pixel becomes four: $y_{pq} = x_{\lfloor p/2 \rfloor, \lfloor q/2 \rfloor}$.
# What is copied forwards is added up backwards.


# %%
def upsampling_backward(dy, x):
    return dy[::2, ::2] + dy[::2, 1::2] + dy[1::2, ::2] + dy[1::2, 1::2]


print(grade("upsampling", upsampling_backward))

# %% [markdown]
# ## Lesson 6
#
# **im2col**, with a 2x2 window: $\mathrm{col}_{ijpq} = x_{p+i,\,q+j}$. Two loops suffice.


# %%
def im2col_backward(dcol, x):
    dx = np.zeros_like(x)
    for i, j in np.ndindex(2, 2):
        dx[i : i + dcol.shape[2], j : j + dcol.shape[3]] += dcol[i, j]
    return dx


print(grade("im2col", im2col_backward))
