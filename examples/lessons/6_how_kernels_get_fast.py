# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Lesson 6: how the kernels get fast
#
# One equation, six ways to compute it. Each gives the same numbers; each is timed here, so that
# the times are those of the machine that ran this notebook. Run it on yours.
#
# $$y_{n;o;pq} = b_o + \sum_{c,i,j} w_{o;cij}\, x_{n;c;\,p+i,\,q+j}$$
#
# We take the second convolution of the book's network for ten images: 20 maps of 12x12 in, 40 maps
# of 8x8 out, kernels of 5x5. That is $10 \cdot 40 \cdot 8 \cdot 8 \cdot 20 \cdot 25 = 12.8$
# million multiply-adds.

# %%
import time

import numpy as np

import tinyconv as tc
from tinyconv import ops
from tinyconv.geometry import sliding_window
from tinyconv.plots import Figure

rng = np.random.default_rng(0)
x = rng.normal(size=(10, 20, 12, 12)).astype(np.float32)
w = rng.normal(size=(40, 20, 5, 5)).astype(np.float32)
WORK = 10 * 40 * 8 * 8 * 20 * 25
assert WORK == 12_800_000
seconds = {}


def timed(name, function, repeat=5, share=1.0):
    """Keep the shortest of several times, and return what the function returned.

    ``share`` is the part of the whole work that the function does.
    """
    best = float("inf")
    for _ in range(repeat):
        started = time.perf_counter()
        result = function()
        best = min(best, time.perf_counter() - started)
    seconds[name] = best / share
    print(f"{name}: {1e3 * seconds[name]:.2f} ms")
    return result


# %% [markdown]
# ## 1. As the equation reads
#
# Seven loops in Python. Each multiplication costs a hundred times what the processor needs for
# it: the interpreter looks up names, makes objects, checks types. We do one image and one output
# map, and multiply the time by 400.

# %%


def seven_loops():
    y = np.zeros((8, 8))
    for p in range(8):
        for q in range(8):
            for c in range(20):
                for i in range(5):
                    for j in range(5):
                        y[p, q] += w[0, c, i, j] * x[0, c, p + i, q + j]
    return y


expected = timed("seven loops", seven_loops, repeat=1, share=1 / 400)

# %% [markdown]
# ## 2. Loops over the kernel only
#
# NumPy does the inner loops in C, over all images and places at once: 25 steps. But each step
# reads and writes the whole result, so the processor waits for memory.

# %%


def loops_over_the_kernel():
    y = np.zeros((10, 40, 8, 8), np.float32)
    for i in range(5):
        for j in range(5):
            y += np.einsum("oc,nchw->nohw", w[:, :, i, j], x[:, :, i : i + 8, j : j + 8])
    return y


y = timed("loops over the kernel", loops_over_the_kernel)
assert np.allclose(y[0, 0], expected, atol=1e-3)

# %% [markdown]
# ## 3. im2col and one matrix product
#
# Lesson 2: copy each window into a column; then one product of matrices does all. A good matrix
# product keeps blocks of both factors in the fastest memory and uses each number many times.
# The price is the copy: every pixel is written up to 25 times.

# %%
geometry = sliding_window("lesson", (12, 12), kernel=(5, 5))
timed("im2col alone", lambda: ops.im2col(x, geometry))
again = timed("im2col and a product", lambda: ops.conv2d(x, w)[0])
assert np.allclose(again, y, atol=1e-3)

# %% [markdown]
# The same in double precision: numbers twice as long, half as many fit into a vector register.

# %%
x64, w64 = x.astype(np.float64), w.astype(np.float64)
timed("the same in float64", lambda: ops.conv2d(x64, w64)[0])
rate = 2e-9 * WORK / seconds["im2col and a product"]
print(f"a multiply-add is two operations: {rate:.1f} thousand million of them a second")

# %% [markdown]
# ## 4. Fused: convolution, pooling, bias and ReLU in one pass
#
# In a network the result is not what we want: a 2x2 maximum throws three of four numbers away. A
# compiled kernel holds a window's sums in registers, takes their maximum, adds the bias, cuts at 0
# and writes one number. No column is ever stored, the maps before the pooling neither. That is
# what `net.predict` and `net.fit` run; `net.forward` runs the readable layers one by one.

# %%
net = tc.Sequential(
    [tc.Conv2d(20, 40, 5), tc.MaxPool2d(2), tc.ReLU(), tc.Flatten(), tc.Linear(640, 10)],
    seed=0,
    input_shape=(20, 12, 12),
)
layers = timed("the layers one by one", lambda: net.forward(x))
net.predict(x)  # compiles its kernels, the first time on a machine
fused = timed("fused prediction", lambda: net.predict_proba(x), repeat=20)
powers = np.exp(layers - layers.max(axis=1, keepdims=True))
assert np.allclose(fused, powers / powers.sum(axis=1, keepdims=True), atol=1e-4)

# %% [markdown]
# ## 5. Backwards: most of the gradient is zero
#
# A 2x2 maximum passes the gradient to one place of four, and a ReLU stops about half of those. A
# product of matrices multiplies all the zeros. A kernel that knows the winners skips them.

# %%
labels = np.arange(10)
loss = tc.CrossEntropyLoss()
loss.forward(net.forward(x), labels)
net.backward(loss.backward())
share = float(np.mean(net.layers[0].dy != 0))
print(f"{share:.1%} of the gradient behind the convolution is not zero")
assert share < 0.25


def step(engine):
    net.fit(x, labels, epochs=20, batch_size=10, optimizer=tc.SGD(lr=1e-4), verbose=False,
            engine=engine)  # fmt: skip


step("eager")
step("auto")  # compiles
timed("20 training steps, layers one by one", lambda: step("eager"), repeat=3)
timed("20 training steps, fused", lambda: step("auto"), repeat=3)

# %% [markdown]
# ## All of them

# %%
forward = [
    "seven loops",
    "loops over the kernel",
    "the same in float64",
    "im2col and a product",
    "the layers one by one",
    "fused prediction",
]
figure = Figure(figsize=(7, 2.8), layout="constrained")
panel = figure.subplots()
panel.barh(forward, [1e3 * seconds[name] for name in forward], color="C0")
panel.set_xscale("log")
panel.set_xlabel("ms for ten images (the last two with pooling, bias, ReLU and a linear layer)")
panel.invert_yaxis()
for row, name in enumerate(forward):
    panel.annotate(f" {1e3 * seconds[name]:.3g}", (1e3 * seconds[name], row), va="center")
figure

# %% [markdown]
# Nothing about the equation has changed. What has changed is how often a number travels between
# memory and processor: that is what makes kernels fast.
