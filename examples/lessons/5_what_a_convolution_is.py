# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Lesson 5: what a convolution is
#
# A layer in which every output is connected with every input can compute anything linear. A
# convolution is the special case that asks for two things: each output looks at a *neighbourhood*,
# and all outputs look with the *same weights*. What does one gain?
#
# ## Equal weights, moved along
#
# Every linear layer is a matrix. We ask two of them for theirs; equal weights have equal colours.

# %%
import numpy as np

import tinyconv as tc
from tinyconv import analysis, ops, plots
from tinyconv.gradcheck import check_adjoint
from tinyconv.plots import Figure


def kernel(*weights, **how):
    """Return a convolution along one axis with these weights."""
    layer = tc.Conv1d(1, 1, len(weights), bias=False, **how)
    layer.forward(np.zeros((1, 1, 12)))
    layer.params["weight"][...] = [[weights]]
    return layer


convolution = kernel(1, -2, 3)
A = analysis.as_matrix(convolution, (1, 12))
print(f"{np.count_nonzero(A)} of {A.size} elements are not zero, {len(np.unique(A)) - 1} differ")
assert A.shape == (10, 12)
assert len(np.unique(A)) == 4  # three weights and zero
plots.matrix(convolution, (1, 12), "convolution: three weights")

# %% [markdown]
# ## Equivariance: move the input, and the output moves
#
# Since the weights are the same everywhere, it does not matter where something is. With $T$ that
# shifts by a pixel, $f(T x) = T f(x)$. A fully connected layer knows no such thing.

# %%
image = tc.data.load("mnist-sample").test.x[:1]
table = analysis.equivariance(tc.Conv2d(1, 1, 5, padding=2, padding_mode="circular"), 3, image)
print(table)
assert all(table["exact"])
plots.equivariance(table)

# %% [markdown]
# A **stride** of 2 keeps every second output: a shift by one pixel now falls between the outputs,
# only shifts by two are followed.

# %%
strided = analysis.equivariance(tc.Conv2d(1, 1, 5, stride=2, padding=2), (0, 4), image)
print(strided)
assert strided["error"][2] < strided["error"][1]
assert strided["error"][4] < strided["error"][3]

# %% [markdown]
# ## Invariance: move the input, and the answer stays
#
# The class of a digit shall *not* move with it. Pooling forgets where in its window the maximum
# was; a global mean forgets the place altogether.

# %%
features = [tc.Conv2d(1, 8, 5, padding=2, padding_mode="circular"), tc.ReLU()]
forgets = tc.Sequential([*features, tc.GlobalAvgPool()], seed=0, input_shape=(1, 28, 28))
remembers = tc.Sequential([tc.Flatten(), tc.Linear(784, 8)], seed=0, input_shape=(1, 28, 28))
images = tc.data.load("mnist-sample").test.x[:50]
tables = {
    "convolution, global mean": analysis.invariance(forgets, (0, 4), images),
    "fully connected": analysis.invariance(remembers, (0, 4), images),
}
assert max(tables["convolution, global mean"]["change"]) < 1e-4
assert max(tables["fully connected"]["change"]) > 0.1
plots.invariance(tables)

# %% [markdown]
# ## Receptive field: what a unit sees
#
# Windows of windows: after two layers of three, a unit sees five inputs. A stride or a
# **dilation**, a kernel with gaps, makes it grow faster. Follow the lines down from one unit:

# %%
ways = {
    "two layers": [kernel(1, 2, 3), kernel(1, 2, 3)],
    "stride 2": [kernel(1, 2, 3, stride=2), kernel(1, 2, 3)],
    "dilation 2": [kernel(1, 2, 3), kernel(1, 2, 3, dilation=2)],
}
for name, layers in ways.items():
    field = analysis.receptive_field(tc.Chain(layers), (1, 13))
    print(f"{name:11} {field.rows[-1].size[0]} inputs")
plots.connections(ways, length=13)

# %% [markdown]
# In a network for digits, over a digit:

# %%
net = tc.models.nielsen_conv_conv_relu(seed=0)
field = analysis.receptive_field(net)
assert field.of("3", 0, 0) == (slice(0, 14), slice(0, 14))
plots.receptive_field(net, image=image[0])

# %% [markdown]
# ## Channels
#
# A colour picture has three numbers at each place, a feature map has twenty. A kernel then has a
# slice for each of them, and the sum runs over the channels as well:
#
# $$y_{o;pq} = b_o + \sum_{c,i,j} w_{o;cij}\, x_{c;\,p+i,\,q+j}.$$
#
# A **1x1** convolution sees one place only. What remains is a fully connected layer over the
# channels, the same one at every place.

# %%
rng = np.random.default_rng(0)
x = rng.normal(size=(1, 3, 4, 5))
w = rng.normal(size=(2, 3, 1, 1))
by_convolution, _ = ops.conv2d(x, w)
by_layer = np.einsum("oc,nchw->nohw", w[:, :, 0, 0], x)
assert np.allclose(by_convolution, by_layer)
print("a 1x1 convolution with", w.size, "weights mixes 3 channels into 2")

# %% [markdown]
# ## Up again: the adjoint
#
# A strided convolution makes images smaller. Its adjoint, $\langle A x, u \rangle = \langle x,
# A^T u \rangle$, takes images of the small size to such of the large one. It is what the backward
# pass computes, and, used forwards, a layer of its own: the *transposed* convolution of nets that
# draw. The checker asks whether two functions are adjoint.

# %%
small = rng.normal(size=(1, 1, 3, 3))
w = rng.normal(size=(1, 1, 3, 3))


def down(x):
    return ops.conv2d(x, w, stride=2)[0]


def up(u):
    return ops.conv_transpose2d(u, w, stride=2)[0]


large = rng.normal(size=(1, 1, 7, 7))
print(down(large).shape, up(small).shape)
report = check_adjoint(down, up, large)
print(report.verdict)
assert report.ok

# %% [markdown]
# Repeating each pixel is linear as well; its adjoint adds the four up.

# %%
enlarged, saved = ops.upsample_nearest2d(small, scale_factor=2)
back = ops.upsample_nearest2d_backward(np.ones_like(enlarged), saved)
assert enlarged.shape == (1, 1, 6, 6)
assert (back == 4).all()

# %% [markdown]
# ## What one gains: MNIST-1D
#
# Curves of 40 samples, each a digit's outline that was shifted, stretched and made noisy, made
# after the recipe of Greydanus. A fully connected net has to learn every position by itself; a
# convolution learns a shape once.

# %%
(x, y), validation, (xt, yt) = tc.data.load("mnist1d")
figure = Figure(figsize=(8, 1.8), layout="constrained")
for digit, panel in enumerate(figure.subplots(1, 10, sharey=True)):
    panel.plot(x[y == digit][0, 0], np.arange(40), linewidth=1)
    panel.set_title(str(digit), fontsize=9)
    panel.set_xticks([])
    panel.set_yticks([])
figure

# %%
nets = {
    "convolutions": tc.models.mnist1d_cnn(),
    "fully connected": tc.models.mnist1d_mlp(),
}
histories, accuracy = {}, {}
for name, net in nets.items():
    histories[name] = net.fit(
        x, y, epochs=25, batch_size=100, optimizer=tc.Adam(lr=0.005), verbose=False,
        validation_data=(xt, yt),
    )  # fmt: skip
    accuracy[name] = net.evaluate(xt, yt)["accuracy"]
    print(f"{name:16} {net.parameters.flat.size:6,} parameters, {accuracy[name]:.1%}")
assert accuracy["convolutions"] > accuracy["fully connected"] + 0.1
plots.learning_curves(histories)
