"""Distortions, held against loops over pixels and against the exact cases of each."""

import numpy as np
import pytest

import tinyconv as tc
from tinyconv import random
from tinyconv.data import ByteImages, augment
from tinyconv.errors import ArgumentError, DataError, DtypeError, ShapeError


def images(n=3, channels=2, height=7, width=6, dtype=np.float64):
    x = random.generator(random.key(1, "images", n)).random((n, channels, height, width))
    return x.astype(dtype)


def sampled_by_loops(image, row, column):
    """Bilinear interpolation of one (H, W) plane at one place, from its definition."""
    H, W = image.shape
    total = 0.0
    for h in range(H):
        for w in range(W):
            total += image[h, w] * max(0, 1 - abs(row - h)) * max(0, 1 - abs(column - w))
    return total


def test_sample_is_bilinear_interpolation():
    x = images(2, 2, 5, 4)
    rng = random.generator(3)
    rows, columns = rng.uniform(-2, 6, (2, 3, 3)), rng.uniform(-2, 5, (2, 3, 3))
    y = augment.sample(x, rows, columns)
    for n, c, i, j in np.ndindex(y.shape):
        expected = sampled_by_loops(x[n, c], rows[n, i, j], columns[n, i, j])
        assert y[n, c, i, j] == pytest.approx(expected, abs=1e-12)


def test_half_precision_loses_no_places():
    # At column 550 its numbers are half a pixel apart.
    x = images(1, 1, 4, 600, np.float16)
    y = augment.distort(x, 1, pixels=(0.25, 0.25))
    expected = augment.distort(x.astype(np.float64), 1, pixels=(0.25, 0.25))
    np.testing.assert_allclose(y, expected, atol=2e-3)


@pytest.mark.parametrize("far", [-1e30, 1e30])
def test_far_outside_is_zero(far):
    x = images(1, 1, 4, 4)
    assert not augment.sample(x, np.full((1, 2, 2), far), np.full((1, 2, 2), 1.0)).any()


@pytest.mark.parametrize("down", [-9, -2, 0, 1, 9])
@pytest.mark.parametrize("right", [-1, 0, 3])
def test_move_shows_each_pixel_at_its_new_place(down, right):
    x = images()
    expected = np.zeros_like(x)
    for h, w in np.ndindex(7, 6):
        if 0 <= h + down < 7 and 0 <= w + right < 6:
            expected[:, :, h + down, w + right] = x[:, :, h, w]
    assert (augment.move(x, down, right) == expected).all()


def test_a_quarter_turn_counterclockwise():
    x = images(2, 1, 6, 6)
    turned = augment.distort(x, 0, degrees=(90, 90))
    np.testing.assert_allclose(turned, np.rot90(x, axes=(2, 3)), atol=1e-5)


def test_turning_there_and_back_leaves_the_middle_as_it_was():
    x = np.zeros((1, 1, 28, 28))
    x[0, 0] = np.exp(-0.02 * ((np.arange(28) - 12)[:, None] ** 2 + (np.arange(28) - 15) ** 2))
    back = augment.distort(augment.distort(x, 0, degrees=(25, 25)), 0, degrees=(-25, -25))
    assert np.abs(back - x)[0, 0, 6:22, 6:22].max() < 0.02


def test_scaling_by_two_doubles_the_width_of_a_bar():
    x = np.zeros((1, 1, 9, 9))
    x[0, 0, 3:6, 3:6] = 1
    y = augment.distort(x, 0, factors=(2, 2))[0, 0]
    assert (y[2:7, 2:7] == 1).all()
    assert not y[[0, 8]].any()
    assert not y[:, [0, 8]].any()


def test_shear_moves_each_row_by_its_height():
    x = images(1, 1, 5, 9)
    y = augment.distort(x, 0, slopes=(1, 1))
    for row in range(5):
        moved = augment.move(x[:, :, row : row + 1], 0, 2 - row)
        np.testing.assert_allclose(y[:, :, row : row + 1], moved, atol=1e-6)


def test_a_shift_by_a_fraction():
    x = np.zeros((1, 1, 3, 3))
    x[0, 0, 1, 1] = 1
    y = augment.distort(x, 0, pixels=(0.25, 0.25))[0, 0]
    np.testing.assert_allclose(y, np.outer([0, 0.75, 0.25], [0, 0.75, 0.25]), atol=1e-6)


def test_random_shifts_are_whole_pixels_within_the_limit():
    x = images(200, 1, 5, 5)
    y = augment.shift(x, 1, key=4)
    seen = set()
    for before, after in zip(x, y, strict=True):
        which = [
            (down, right)
            for down in (-1, 0, 1)
            for right in (-1, 0, 1)
            if (augment.move(before[None], down, right)[0] == after).all()
        ]
        assert len(which) == 1
        seen.update(which)
    assert len(seen) == 9


def test_elastic_displacement_has_the_strength_that_the_source_names():
    row = np.broadcast_to(np.arange(200.0), (200, 200))[None, None]  # each pixel is its column
    moved = (augment.distort(row, 5, alpha=34) - row)[0, 0, 50:150, 50:150]
    # Uniform (-1, 1) has variance 1/3; a Gaussian of sum 1 leaves 1 / (4 pi sigma^2) of it.
    assert moved.std() == pytest.approx(34 / np.sqrt(3 * 4 * np.pi * 16), rel=0.2)
    step = np.diff(moved, axis=1).std() / moved.std()
    assert step == pytest.approx(1 / (np.sqrt(2) * 4), rel=0.2)  # smooth at the scale of sigma


def test_a_normalized_field_has_the_same_norm_for_every_image():
    size = np.arange(60.0)
    rows = np.broadcast_to(size[:, None], (60, 60))
    places = np.stack([rows, rows.T])[None].repeat(3, axis=0)  # each pixel is where it is
    for moved in augment.distort(places, 5, alpha=40, normalized=True) - places:
        inside = moved[:, 3:-3, 3:-3]  # at the edges, places outside are 0
        assert np.sqrt(np.square(inside).sum()) == pytest.approx(40, rel=0.15)


ALL = {
    "shift": lambda x, key: augment.shift(x, 1, key),
    "rotate": lambda x, key: augment.distort(x, key, degrees=20),
    "scale": lambda x, key: augment.distort(x, key, factors=0.2),
    "shear": lambda x, key: augment.distort(x, key, slopes=0.3),
    "elastic": lambda x, key: augment.distort(x, key, alpha=34),
    "normalized": lambda x, key: augment.distort(x, key, alpha=34, normalized=True),
}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_all_distortions_share(name, dtype):
    x = images(8, 2, 9, 9, dtype)
    before = x.copy()
    y = ALL[name](x, 7)
    assert y.shape == x.shape
    assert y.dtype == dtype
    assert (x == before).all()
    assert (ALL[name](x, 7) == y).all()
    assert (ALL[name](x, 8) != y).any()
    same = np.broadcast_to(x[:1], x.shape)
    assert (ALL[name](same, 7)[0] != ALL[name](same, 7)[1:]).any()  # each image on its own
    assert y.min() >= -1e-6
    assert y.max() <= x.max() + 1e-6


def test_no_distortion_changes_nothing():
    x = images()
    np.testing.assert_allclose(augment.distort(x, 0), x, atol=1e-6)


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("degrees is (3, 1), expected (low, high) with low <= high", {"degrees": (3, 1)}),
        ("factors is 1.0, expected (low, high) with low <= high and low > 0", {"factors": 1.0}),
        ("degrees is '15', expected (low, high) with low <= high", {"degrees": "15"}),
        ("alpha is -1, expected a number of at least 0", {"alpha": -1}),
        ("sigma is 0, expected a number above 0 and at most 1000", {"sigma": 0}),
    ],
)
def test_ranges_out_of_range(message, arguments):
    with pytest.raises(ArgumentError) as raised:
        augment.distort(images(), 0, **arguments)
    assert str(raised.value) == f"distort: {message}"


def test_arrays_that_are_no_images():
    with pytest.raises(ShapeError, match=r"x has shape \(3, 4\), expected \(N, C, H, W\)"):
        augment.distort(np.zeros((3, 4)), 0)
    with pytest.raises(DtypeError, match="x has dtype uint8, expected a floating-point type"):
        augment.sample(np.zeros((1, 1, 2, 2), np.uint8), np.zeros((1, 1, 1)), np.zeros((1, 1, 1)))
    for act in (
        lambda: augment.move(np.zeros((3, 4)), 1, 0),
        lambda: augment.shift(np.zeros((3, 4)), 1, 0),
        lambda: augment.expand(np.zeros((3, 4)), np.zeros(3, int)),
    ):
        with pytest.raises(ShapeError, match=r"x has shape \(3, 4\), expected \(N, C, H, W\)"):
            act()
    with pytest.raises(ArgumentError, match="pixels is -1, expected an integer of at least 0"):
        augment.shift(images(), -1, 0)
    with pytest.raises(ShapeError, match="y has 2 labels, expected 3"):
        augment.expand(images(), np.zeros(2, int))


# The expanded set.


def test_places_that_do_not_fit_and_places_that_are_none():
    x, places = np.ones((2, 1, 3, 3)), np.ones((2, 4, 4))
    for rows, columns in ((places[:1], places), (places, places[..., :1]), (places[0], places[0])):
        with pytest.raises(
            ShapeError, match=r"sample: rows has shape .* expected \(2, OH, OW\) bo"
        ):
            augment.sample(x, rows, columns)
    for wrong in ({"x": [1.0]}, {"rows": 1.0}, {"columns": None}):
        given = {"x": x, "rows": places, "columns": places, **wrong}
        with pytest.raises(
            ArgumentError, match=f"sample: {next(iter(wrong))} is .*, expected a NumPy ar"
        ):
            augment.sample(**given)
    nowhere = np.where(np.eye(4) > 0, np.nan, 1.0) + np.zeros((2, 1, 1))
    for given in ((nowhere, places), (places, nowhere)):
        np.testing.assert_array_equal(augment.sample(x, *given)[:, 0], 1 - np.eye(4) + 0 * places)
    for labels in (3, None, np.array(3)):
        with pytest.raises((ArgumentError, ShapeError), match="expand: y "):
            augment.expand(x, labels)


def test_the_expanded_set_holds_each_image_and_its_four_shifts():
    pixels = random.generator(2).integers(0, 256, (6, 1, 5, 5), np.uint8)
    larger, labels = augment.expand(pixels, np.arange(6), key=3)
    expected = {
        (augment.move(pixels[n : n + 1], *by).tobytes(), n)
        for n in range(6)
        for by in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))
    }
    found = [(image.tobytes(), int(n)) for image, n in zip(larger.pixels, labels, strict=True)]
    assert len(found) == 30
    assert set(found) == expected
    assert labels.tolist() != sorted(labels.tolist())
    again = augment.expand(pixels, np.arange(6), key=3)
    assert (again[0].pixels == larger.pixels).all()
    assert (augment.expand(pixels, np.arange(6), key=4)[1] != labels).any()


def test_targets_of_any_shape_go_with_their_images():
    x = images(4, 1)
    _, labels = augment.expand(x, np.arange(4), key=3)
    _, rows = augment.expand(x, np.eye(4), key=3)
    assert (rows.argmax(axis=1) == labels).all()


def test_floats_and_bytes_expand_to_the_same():
    (x, y), *_ = tc.data.load()
    x, y = x[:20], y[:20]
    from_bytes = augment.expand(np.rint(x * 255).astype(np.uint8), y)
    from_floats = augment.expand(x, y)
    assert (from_bytes[0].pixels == from_floats[0].pixels).all()


def test_bytes_read_as_the_floats_they_were():
    (x, _), *_ = tc.data.load()
    kept = ByteImages.from_floats(x[:50])
    assert kept.pixels.nbytes * 4 == x[:50].nbytes
    assert (kept[:] == x[:50]).all()
    assert (np.asarray(kept) == x[:50]).all()
    index = np.array([7, 3, 3])
    assert (kept[index] == x[index]).all()
    assert kept[index].dtype == np.float32


def test_bytes_train_as_their_floats_do():
    (x, y), *_ = tc.data.load()
    x, y = x[:200], y[:200]
    histories = []
    for samples in (x, ByteImages.from_floats(x)):
        net = tc.models.nielsen_conv_softmax(seed=1)
        history = net.fit(
            samples,
            y,
            epochs=2,
            optimizer=tc.SGD(lr=0.1),
            verbose=False,
            validation_data=(samples, y),
        )
        histories.append([{k: v for k, v in row.items() if "second" not in k} for row in history])
    assert histories[0] == histories[1]
    assert (net.predict(ByteImages.from_floats(x)) == net.predict(x)).all()


def test_what_is_no_bytes():
    with pytest.raises(DtypeError, match="pixels has dtype float64, expected uint8"):
        ByteImages(np.zeros((1, 1, 2, 2)))
    with pytest.raises(ShapeError, match=r"pixels has shape \(\), expected \(N, ...\)"):
        ByteImages(np.zeros((), np.uint8))
    with pytest.raises(DataError, match=r"values from 0.0 to 2.0, expected them in \[0, 1\]"):
        ByteImages.from_floats(np.array([[[[0.0, 2.0]]]]))
    with pytest.raises(DataError, match="values from nan"):
        ByteImages.from_floats(np.full((1, 1, 1, 1), np.nan))
    with pytest.raises(ValueError, match="always a copy"):
        np.asarray(ByteImages(np.zeros((1, 1, 2, 2), np.uint8)), copy=False)


# New distortions in every epoch.


def distorted_run(folder, epochs, resume=False):
    """Train on bytes that are rotated anew; return the network and the batches of every epoch."""
    (x, y), *_ = tc.data.load()
    kept, seen = ByteImages.from_floats(x[:40]), []

    def rotate(batch, key):
        seen.append(ALL["rotate"](batch, key))
        return seen[-1]

    net = tc.models.nielsen_fully_connected(seed=2)
    arguments = {"checkpoint": folder, "resume": resume, "verbose": False, "shuffle": False}
    net.fit(kept, y[:40], epochs=epochs, batch_size=20, augment=rotate, **arguments)
    assert (kept[:] == x[:40]).all()  # left as they were
    return net, np.concatenate(seen).reshape(-1, *x[:40].shape)


def test_every_epoch_has_distortions_of_its_own_and_a_resumed_run_the_same(tmp_path):
    whole, seen = distorted_run(tmp_path / "whole", 3)
    assert (seen[0] != seen[1]).any()
    assert (seen[1] != seen[2]).any()
    distorted_run(tmp_path / "parts", 1)
    resumed, later = distorted_run(tmp_path / "parts", 3, resume=True)
    assert (seen[1:] == later).all()
    assert (resumed.parameters.flat == whole.parameters.flat).all()
