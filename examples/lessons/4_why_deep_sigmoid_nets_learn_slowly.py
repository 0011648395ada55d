# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Lesson 4: why the deep sigmoid net learns slowly
#
# BP2 sends an error back through a layer by multiplying it with $w^T$ and with $\sigma'(z)$. The
# slope of the sigmoid is at most $\tfrac14$. Through $n$ layers these factors multiply, and unless
# the weights make up for them, the error that reaches the first layers has all but vanished. Its
# size *is* the speed at which a layer learns, since $\partial C/\partial b = \delta$ (BP3). So let
# us measure it.

# %%
import numpy as np

import tinyconv as tc
from tinyconv.plots import Figure

(x, y), validation, _ = tc.data.load("mnist-sample")
HIDDEN = 30


def deep_net(hidden_layers, activation, weight_init):
    """Return a fully connected net of so many hidden layers of 30 units."""
    layers, before = [tc.Flatten()], 784
    for _ in range(hidden_layers):
        layers += [tc.Linear(before, HIDDEN, weight_init=weight_init), activation()]
        before = HIDDEN
    layers.append(tc.Linear(before, 10, weight_init=weight_init))
    return tc.Sequential(layers, seed=1, input_shape=(1, 28, 28))


def speeds(net):
    """Return the norm of the bias gradient of each hidden layer, first layer first."""
    _, grads = net.loss_and_grads(x[:1000], y[:1000])
    biases = [grad for name, grad in grads.items() if name.endswith("bias")]
    return [float(np.linalg.norm(grad)) for grad in biases[:-1]]


# %% [markdown]
# ## Before training
#
# Five hidden layers; the weights have variance $1/n$ of $n$ inputs, so that they neither swell nor
# shrink the sums.

# %%
DEPTH = 5
kinds = {
    "sigmoid": deep_net(DEPTH, tc.Sigmoid, "inverse_sqrt"),
    "tanh": deep_net(DEPTH, tc.Tanh, "inverse_sqrt"),
    "ReLU, weights made for it": deep_net(DEPTH, tc.ReLU, "he"),
}
measured = {name: speeds(net) for name, net in kinds.items()}
for name, norms in measured.items():
    print(f"{name:26}", "  ".join(f"{norm:.1e}" for norm in norms))

figure = Figure(figsize=(5, 3), layout="constrained")
panel = figure.subplots()
for name, norms in measured.items():
    panel.semilogy(range(1, DEPTH + 1), norms, "o-", label=name)
panel.set_xlabel("hidden layer")
panel.set_ylabel("norm of the gradient")
panel.set_xticks(range(1, DEPTH + 1))
panel.legend(frameon=False, fontsize=8)
figure

# %% [markdown]
# In the sigmoid net each layer learns several times slower than the one behind it, by a factor of
# about $\tfrac14$, as foretold. The other two keep the error's size: the slope of tanh is 1 at 0,
# that of an open ReLU everywhere.

# %%
ratios = np.divide(measured["sigmoid"][:-1], measured["sigmoid"][1:])
print("sigmoid, each layer against the next:", ratios.round(3))
assert (ratios < 0.4).all()
assert measured["sigmoid"][0] < 0.01 * measured["sigmoid"][-1]
assert measured["ReLU, weights made for it"][0] > 0.1 * measured["ReLU, weights made for it"][-1]

# %% [markdown]
# ## During training
#
# Three nets, twelve epochs on the small sample. The speeds of the sigmoid net's first and last
# hidden layer stay apart, and it gets nowhere in that time.


# %%
class Speeds(tc.Callback):
    """Keeps the gradient norms of every epoch."""

    def __init__(self, net):
        self.net, self.kept = net, [speeds(net)]

    def on_epoch_end(self, training):
        self.kept.append(speeds(self.net))


histories, kept = {}, {}
for name, net in kinds.items():
    callback = Speeds(net)
    histories[name] = net.fit(
        x, y, epochs=12, batch_size=10, optimizer=tc.SGD(lr=0.1), verbose=False,
        validation_data=validation, callbacks=[callback],
    )  # fmt: skip
    kept[name] = np.array(callback.kept)
    print(f"{name:26} best validation accuracy {max(histories[name]['val_accuracy']):.1%}")

assert max(histories["sigmoid"]["val_accuracy"]) < 0.5
assert max(histories["tanh"]["val_accuracy"]) > 0.85
assert max(histories["ReLU, weights made for it"]["val_accuracy"]) > 0.85

figure = Figure(figsize=(9, 3), layout="constrained")
left, right = figure.subplots(1, 2)
for name, history in histories.items():
    left.plot(history["epoch"], history["val_accuracy"], label=name)
left.set_xlabel("epoch")
left.set_ylabel("validation accuracy")
left.legend(frameon=False, fontsize=8)
for layer, norms in enumerate(kept["sigmoid"].T, start=1):
    right.semilogy(norms, label=f"hidden layer {layer}")
right.set_xlabel("epoch")
right.set_ylabel("norm of the gradient, sigmoid net")
right.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.02, 0.5))
figure

# %% [markdown]
# ## And the convolutional net?
#
# The chapter's net with two convolutional layers is deep as well, but its layers are few, its
# shared weights collect the errors of all places, and ReLU lets them pass. Its first layer learns
# about as fast as its last.

# %%
net = tc.models.nielsen_conv_conv_relu(seed=1)
_, grads = net.loss_and_grads(x[:1000], y[:1000])
norms = {name: float(np.linalg.norm(g)) for name, g in grads.items() if name.endswith("weight")}
print({name: round(norm, 3) for name, norm in norms.items()})
assert norms["0.weight"] > 0.1 * norms["9.weight"]
