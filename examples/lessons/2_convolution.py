# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Lesson 2: convolution, im2col and its adjoint
#
# A convolution slides a small kernel over an image and writes down, at every place, the sum of
# products with what lies under it:
#
# $$y_{pq} = b + \sum_{i,j} w_{ij}\, x_{p+i,\,q+j}.$$

# %%
import numpy as np

from tinyconv import ops
from tinyconv.geometry import sliding_window
from tinyconv.lessons import slopes
from tinyconv.plots import Figure

x = np.array(
    [
        [1.0, 0.0, 2.0, 1.0],
        [0.0, 1.0, 0.0, 0.0],
        [2.0, 0.0, 1.0, 1.0],
        [1.0, 1.0, 0.0, 2.0],
    ]
)
w = np.array([[1.0, -1.0], [0.0, 2.0]])

# %% [markdown]
# Top left the window is $\begin{pmatrix}1&0\\0&1\end{pmatrix}$, so
# $y_{00} = 1\cdot1 - 1\cdot0 + 0\cdot0 + 2\cdot1 = 3$. Work out the others and compare.

# %%
y, saved = ops.conv2d(x[None, None], w[None, None])
print(y[0, 0])
assert y[0, 0, 0, 0] == 3
for p in range(3):
    for q in range(3):
        assert y[0, 0, p, q] == np.sum(w * x[p : p + 2, q : q + 2])

# %% [markdown]
# ## As a product of matrices
#
# `im2col` copies each window into a column. Then the convolution is the kernel, written as a row,
# times that matrix: the fastest way to compute it with an ordinary matrix product.

# %%
geometry = sliding_window("lesson", (4, 4), kernel=(2, 2))
columns = ops.im2col(x[None, None], geometry).reshape(4, 9)
print(columns)
assert (columns[:, 0] == [1, 0, 0, 1]).all()  # the window from above
assert (w.reshape(1, 4) @ columns == y.reshape(1, 9)).all()

figure = Figure(figsize=(7, 2.4), layout="constrained")
panels = figure.subplots(1, 3, width_ratios=(4, 9, 3))
for panel, picture, title in zip(
    panels, (x, columns, y[0, 0]), ("image", "its columns", "result"), strict=True
):
    drawn = panel.imshow(picture, cmap="RdBu_r", vmin=-6, vmax=6)  # one scale for all
    panel.set_title(title, fontsize=9)
    panel.set_xticks([])
    panel.set_yticks([])
    for row, numbers in enumerate(picture):
        for column, number in enumerate(numbers):
            ink = "white" if abs(number) > 4 else "black"
            panel.text(column, row, f"{number:g}", ha="center", va="center", color=ink, fontsize=9)
figure.colorbar(drawn, ax=panels, shrink=0.8)
figure

# %% [markdown]
# ## Backwards
#
# `im2col` is linear: it only copies. A linear map $A$ has an adjoint $A^T$, defined by
# $\langle A x, c \rangle = \langle x, A^T c \rangle$ for all $x$ and $c$. What is copied forwards
# must be added up backwards, so the adjoint of `im2col`, called `col2im`, puts each element of a
# column back where it came from, and adds where several land on one pixel.

# %%
rng = np.random.default_rng(1)
c = rng.normal(size=(1, 1, 2, 2, 3, 3))
image = rng.normal(size=(1, 1, 4, 4))
left = np.sum(ops.im2col(image, geometry) * c)
right = np.sum(image * ops.col2im(c, geometry))
print(left, right)
assert np.isclose(left, right)

# %% [markdown]
# How often does a pixel land? As often as a window covers it: the corner once, the middle four
# times.

# %%
coverage = ops.col2im(np.ones((1, 1, 2, 2, 3, 3)), geometry)[0, 0]
print(coverage)
assert coverage[0].tolist() == [1, 2, 2, 1]
assert coverage[1].tolist() == [2, 4, 4, 2]

# %% [markdown]
# Now the chain rule has nothing left to do. With $y = w\,\mathrm{col}(x) + b$,
#
# $$dw = dy\;\mathrm{col}(x)^T, \qquad dx = \mathrm{im}\left(w^T dy\right), \qquad db = \sum dy.$$

# %%
b = np.zeros(1)
y, saved = ops.conv2d(x[None, None], w[None, None], b)
dy = rng.normal(size=y.shape)
dx, dw, db = ops.conv2d_backward(dy, saved)

assert np.allclose(dw.reshape(1, 4), dy.reshape(1, 9) @ columns.T)
by_hand = ops.col2im((w.reshape(4, 1) @ dy.reshape(1, 9)).reshape(1, 1, 2, 2, 3, 3), geometry)
assert np.allclose(dx, by_hand)


def cost():
    return float(np.sum(dy * ops.conv2d(x[None, None], w[None, None], b)[0]))


for name, values, equation in (("x", x, dx[0, 0]), ("w", w, dw[0, 0]), ("b", b, db)):
    difference = np.abs(slopes(cost, values) - equation).max()
    print(f"d cost / d {name}: largest difference {difference:.1e}")
    assert difference < 1e-8

# %% [markdown]
# ## The matrix of a convolution
#
# Being linear, the convolution itself is a matrix too: 16 pixels in, 9 numbers out. Its rows hold
# the same four weights again and again, moved along, and nothing else. That is all there is to
# "shared weights". The transpose of this matrix is what carries errors back.

# %%
matrix = np.stack(
    [ops.conv2d(pixel.reshape(1, 1, 4, 4), w[None, None])[0].ravel() for pixel in np.eye(16)],
    axis=1,
)
assert np.allclose(matrix @ x.ravel(), y.ravel())
assert np.allclose(matrix.T @ dy.ravel(), dx.ravel())
assert np.count_nonzero(matrix) == 9 * np.count_nonzero(w)

figure = Figure(figsize=(5, 3), layout="constrained")
panel = figure.subplots()
drawn = panel.imshow(matrix, cmap="RdBu_r", vmin=-2, vmax=2)
panel.set_xlabel("pixel of the image")
panel.set_ylabel("number of the result")
figure.colorbar(drawn, ax=panel)
figure
