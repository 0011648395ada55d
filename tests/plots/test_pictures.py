"""Pictures show what they say: the arrays behind them are looked at, and the errors."""

import numpy as np
import pytest

import tinyconv as tc
from tinyconv import plots
from tinyconv.errors import ArgumentError, DtypeError, ShapeError, StateError


@pytest.fixture(scope="module")
def net():
    return tc.models.nielsen_conv_conv_relu(seed=1)


@pytest.fixture(scope="module")
def digits():
    (x, y), *_ = tc.data.load()
    return x[:40], y[:40]


def shown(figure):
    """Return what the panels show, scales apart."""
    return [np.asarray(panel.images[0].get_array()) for panel in figure.axes if panel.images]


def test_feature_maps_are_the_outputs_of_the_layers(net, digits):
    x, _ = digits
    drawn = shown(plots.feature_maps(net, x[3]))
    net.forward(x[3:4])
    expected = [m for layer in net.layers[:6] for m in layer.y[0]]
    assert len(drawn) == len(expected) == 3 * 20 + 3 * 40
    assert all((a == b).all() for a, b in zip(drawn, expected, strict=True))


def test_feature_maps_of_one_layer(net, digits):
    figure = plots.feature_maps(net, digits[0][0], layer=4)
    assert [m.shape for m in shown(figure)] == [(4, 4)] * 40


def test_feature_maps_of_what_has_none(net, digits):
    with pytest.raises(ShapeError, match=r"image has shape \(28,\), expected \(C, H, W\)"):
        plots.feature_maps(net, np.zeros(28))
    with pytest.raises(ShapeError, match="layer 99 of 10 does not exist or gives"):
        plots.feature_maps(net, digits[0][0], layer=99)
    dense = tc.Sequential([tc.Flatten(), tc.Linear(784, 10)])
    with pytest.raises(ShapeError, match="no layer gives"):
        plots.feature_maps(dense, digits[0][0])
    with pytest.raises(ShapeError):
        plots.feature_maps(net, np.zeros((3, 28, 28)))


def test_maps_of_a_layer_share_one_scale(net, digits):
    with_axis = plots.feature_maps(net, digits[0][0], layer=0)
    without = plots.feature_maps(net, digits[0][0, 0], layer=0)
    assert all((a == b).all() for a, b in zip(shown(with_axis), shown(without), strict=True))
    limits = {panel.images[0].get_clim() for panel in with_axis.axes if panel.images}
    largest = float(np.abs(net.layers[0].y[:1]).max())
    assert limits == {(-largest, largest)}
    fresh = tc.Sequential([tc.Conv2d(None, 2, 3)])
    assert len(shown(plots.feature_maps(fresh, np.zeros((9, 9))))) == 2


def test_of_many_kernels_a_selection_is_drawn_and_the_rest_counted(net):
    figure = plots.filters(net.layers[3])
    assert len(shown(figure)) == 80
    assert figure.get_suptitle() == "80 of 800 kernels (40 outputs from 20 inputs)"
    limit = float(np.abs(net.layers[3].params["weight"]).max())
    clims = {panel.images[0].get_clim() for panel in figure.axes if panel.images}
    assert clims == {(-limit, limit)}


def test_figures_are_pictures_in_a_notebook(net):
    assert plots.filters(net.layers[0])._repr_png_().startswith(b"\x89PNG")


def test_mistakes_shows_the_wrong_ones_with_both_labels(digits):
    x, y = digits
    predicted = y.copy()
    predicted[[4, 9, 30]] = (y[[4, 9, 30]] + 1) % 10
    figure = plots.mistakes(x, y, predicted)
    assert figure.get_suptitle() == "3 of 40 wrong"
    assert len(figure.axes) == 3
    for panel, n in zip(figure.axes, (4, 9, 30), strict=True):
        assert (np.asarray(panel.images[0].get_array()) == x[n, 0]).all()
        assert panel.get_xlabel() == f"true: {y[n]}\npredicted: {predicted[n]}"


def test_mistakes_up_to_a_limit(digits):
    x, y = digits
    figure = plots.mistakes(x[:, 0], y, (y + 1) % 10, limit=12)
    assert figure.get_suptitle() == "40 of 40 wrong, the first 12 of them"
    assert len(figure.axes) == 12
    assert len(plots.mistakes(x, y, y).axes) == 0


def test_mistakes_of_arrays_that_do_not_fit(digits):
    x, y = digits
    with pytest.raises(ShapeError, match=r"y has shape \(40,\) and predicted \(39,\)"):
        plots.mistakes(x, y, y[:39])
    with pytest.raises(ShapeError, match=r"expected \(40, 1, H, W\) because y has 40 labels"):
        plots.mistakes(x[:39], y, y)


def test_confusion_matrix_counts():
    y = np.array([0, 0, 0, 1, 2, 2])
    predicted = np.array([0, 0, 1, 1, 0, 0])
    figure = plots.confusion_matrix(y, predicted, classes=3)
    panel, scale = figure.axes
    assert scale.get_ylabel() == "mistakes"
    table = np.array([text.get_text() for text in panel.texts]).reshape(3, 3)
    assert table.tolist() == [["2", "1", "0"], ["0", "1", "0"], ["2", "0", "0"]]
    assert panel.get_title() == "3 of 6 correct"
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("predicted", "true")
    inks = np.array([text.get_color() for text in panel.texts]).reshape(3, 3)
    assert inks[2, 0] == "white"  # on the darkest ground
    assert inks[0, 0] == "black"
    colours = np.asarray(panel.images[0].get_array())
    assert colours.tolist() == [[0, 1, 0], [0, 0, 0], [2, 0, 0]]


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int64", list])
def test_many_classes_in_labels_of_few_bits(dtype):
    y, predicted = [30, 30, 2], [31, 31, 2]
    if dtype is not list:
        y, predicted = np.array(y, dtype), np.array(predicted, dtype)
    texts = plots.confusion_matrix(y, predicted, classes=40).axes[0].texts
    counts = {divmod(n, 40): text.get_text() for n, text in enumerate(texts)}
    assert {place: text for place, text in counts.items() if text != "0"} == {
        (30, 31): "2",
        (2, 2): "1",
    }


def test_labels_that_are_no_integers():
    with pytest.raises(DtypeError, match="confusion_matrix: labels are float64, expected integers"):
        plots.confusion_matrix(np.array([0.0, 1.0]), np.array([0.0, 1.0]))


def test_a_class_without_a_name_is_called_by_its_number(digits):
    x, y = digits[0][:3], [0, 5, -1]
    figure = plots.mistakes(x, y, [1, 1, 1], class_names=["nil", "one"])
    texts = [panel.get_xlabel().split("\n")[0] for panel in figure.axes]
    assert texts == ["true: nil", "true: 5", "true: -1"]


def test_bytes_keep_their_greys(digits):
    x = np.repeat(np.full((1, 1, 4, 4), 100, np.uint8), 3, axis=1)
    assert np.asarray(plots.mistakes(x, [1], [2]).axes[0].images[0].get_array()).max() == 100


def test_confusion_of_labels_out_of_range():
    with pytest.raises(ShapeError, match="labels from 0 to 3, expected 0 to 2"):
        plots.confusion_matrix(np.array([0, 3]), np.array([0, 1]), classes=3)
    with pytest.raises(ShapeError, match="expected"):
        plots.confusion_matrix(np.zeros((2, 2), int), np.zeros((2, 2), int))


def test_augmentations_begin_each_row_with_the_image(digits):
    x, _ = digits
    figure = plots.augmentations(x[0], key=2, copies=4)
    drawn = shown(figure)
    names = [panel.get_ylabel() for panel in figure.axes[::5]]
    assert names == ["shift", "rotate", "scale", "shear", "elastic", "all"]
    for row in range(6):
        image, *copies = drawn[5 * row : 5 * row + 5]
        assert (image == x[0, 0]).all()
        assert len({copy.tobytes() for copy in copies}) > 1
    again = shown(plots.augmentations(x[0, 0], key=2, copies=4))
    assert all((a == b).all() for a, b in zip(drawn, again, strict=True))
    with pytest.raises(ShapeError, match=r"image has shape \(2, 28, 28\), expected \(H, W\)"):
        plots.augmentations(np.zeros((2, 28, 28)))


def test_filters_are_the_weights(net):
    drawn = shown(plots.filters(net.layers[0]))
    assert all((a == w).all() for a, w in zip(drawn, net.layers[0].params["weight"][:, 0]))  # noqa: B905
    with pytest.raises(StateError, match="the layer has no parameters yet"):
        plots.filters(tc.Conv2d(1, 2, 3))


def test_learning_curves_of_several_runs():
    one = tc.History([{"epoch": 1, "loss": 0.5, "accuracy": 0.8, "val_accuracy": 0.7}])
    two = tc.History([{"epoch": 1, "loss": 0.4, "accuracy": 0.9}])
    figure = plots.learning_curves({"one": one, "two": two})
    labels = [line.get_label() for line in figure.axes[1].lines]
    alone = plots.learning_curves(one)
    assert [line.get_label() for line in alone.axes[1].lines] == ["training", "validation"]
    figure.canvas.draw()
    legend, panel = figure.axes[1].get_legend(), figure.axes[1]
    assert legend.get_window_extent().x0 >= panel.get_window_extent().x1  # over no curve
    assert labels == ["one, training", "one, validation", "two, training"]
    with pytest.raises(StateError, match="no epoch has been completed"):
        plots.learning_curves({"none": tc.History()})


def test_a_history_without_epochs():
    history = tc.History([{"loss": 0.5}])
    with pytest.raises(ArgumentError, match=r"^learning_curves: the history has rows without an"):
        plots.learning_curves(history)
    with pytest.raises(ArgumentError, match=r"^learning_curves: the history of 'a' has rows"):
        plots.learning_curves({"a": history})


@pytest.mark.parametrize(
    ("losses", "scale"), [([0.5, 0.1], "log"), ([0.5, 0.0], "linear"), ([-1.0, -2.0], "linear")]
)
def test_every_loss_has_its_place_on_the_scale(losses, scale):
    history = tc.History([{"epoch": n, "loss": loss} for n, loss in enumerate(losses, start=1)])
    assert plots.learning_curves(history).axes[0].get_yscale() == scale


def test_a_figure_of_some_epochs_is_drawn_there():
    rows = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.4, "val_loss": 0.6}]
    _, validation = plots.learning_curves(tc.History(rows)).axes[0].lines
    assert (validation.get_xdata(), validation.get_ydata()) == ([2], [0.6])


@pytest.mark.parametrize(
    "call",
    [
        lambda x, y: plots.mistakes(x, y, y, limit=-1),
        lambda x, y: plots.mistakes(x, y, y, columns=0),
        lambda x, y: plots.confusion_matrix(y, y, classes=0),
        lambda x, y: plots.augmentations(x[0], copies=-1),
        lambda x, y: plots.connections({}, 9),
        lambda x, y: plots.connections({"none": []}, 9),
        lambda x, y: plots.connections(tc.Conv1d(1, 1, 3), 9),
    ],
)
def test_arguments_that_draw_nothing(call, digits):
    with pytest.raises(ArgumentError, match="expected"):
        call(*digits)


def test_names_of_classes_may_be_an_array() -> None:
    y, predicted, names = np.array([0, 1]), np.array([1, 1]), np.array(["cat", "dog"])
    figure = plots.confusion_matrix(y, predicted, class_names=names)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["cat", "dog"]
    figure = plots.mistakes(np.zeros((2, 8, 8)), y, predicted, class_names=names)
    assert figure.axes[0].get_xlabel() == "true: cat\npredicted: dog"
