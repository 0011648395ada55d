# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Exercises: fill in the blanks
#
# Each function is the backward pass of a forward pass that is given. Put your code where `...`
# stands, run the cell, and read what the checker says: `right`, or what is wrong. It knows the
# usual mistakes by name, a kernel that was not flipped or a sum that became a mean.
#
# The first argument is the gradient of the cost with respect to the result; the others are what
# the forward pass took. Return the gradient of each of these, in the same order. Use NumPy only.

# %%
import numpy as np

from tinyconv.lessons import EXERCISES, grade

for name, exercise in EXERCISES.items():
    print(f"lesson {exercise.lesson}, {name}: {exercise.equation}")

# %% [markdown]
# ## Lesson 1
#
# **A neuron.** $a = \sigma(z)$ with $z = w x + b$ and $\sigma' = \sigma (1 - \sigma)$.


# %%
def neuron_backward(da, x, w, b):
    dz = ...
    return dz, dz, dz  # three different ones: dx, dw, db


print(grade("neuron", neuron_backward))

# %% [markdown]
# **A layer.** $z = x w^T + b$; each row of $x$ is a sample.


# %%
def layer_backward(dz, x, w, b):
    dx = ...
    dw = ...
    db = ...
    return dx, dw, db


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
            dw = ...  # what does the output (p, q) say to all weights?
            dx = ...  # and to the pixels of its window?
    return dx, dw


print(grade("convolution", convolution_backward))

# %% [markdown]
# ## Lesson 3
#
# **Max-pooling whose windows overlap.** $y_{pq}$ is the maximum of `x[p : p + 2, q : q + 2]`.


# %%
def max_pool_backward(dy, x):
    dx = ...
    return dx


print(grade("overlapping max-pooling", max_pool_backward))

# %% [markdown]
# **L2 pooling.** $y_{pq} = \sqrt{\sum x^2}$ over `x[2 * p : 2 * p + 2, 2 * q : 2 * q + 2]`.


# %%
def l2_pool_backward(dy, x):
    dx = ...
    return dx


print(grade("L2 pooling", l2_pool_backward))

# %% [markdown]
# ## Lesson 4
#
# **Softplus**, $y = \ln(1 + e^x)$: an activation that does not saturate on one side. What is its
# slope, and where have you met it?


# %%
def softplus_backward(dy, x):
    dx = ...
    return dx


print(grade("softplus", softplus_backward))

# %% [markdown]
# ## Lesson 5
#
# **Upsampling.** Each pixel becomes four: $y_{pq} = x_{\lfloor p/2 \rfloor, \lfloor q/2 \rfloor}$.
# What is copied forwards is added up backwards.


# %%
def upsampling_backward(dy, x):
    dx = ...
    return dx


print(grade("upsampling", upsampling_backward))

# %% [markdown]
# ## Lesson 6
#
# **im2col**, with a 2x2 window: $\mathrm{col}_{ijpq} = x_{p+i,\,q+j}$. Two loops suffice.


# %%
def im2col_backward(dcol, x):
    dx = ...
    return dx


print(grade("im2col", im2col_backward))
