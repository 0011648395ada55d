import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_run import network, run

import tinyconv as tc

ROWS = st.lists(
    st.dictionaries(
        st.sampled_from(["epoch", "loss", "val_loss", "accuracy"]),
        st.integers(-(10**6), 10**6) | st.floats(allow_nan=False),
        min_size=1,
    ),
    max_size=5,
)


@given(ROWS)
def test_csv_and_back(rows: list[dict[str, float]]) -> None:
    """Every number to the last bit, and an entry that a row does not have stays away."""
    back = tc.History.from_csv(tc.History(rows).to_csv())
    assert back.rows == rows


def test_not_a_number_goes_through_csv_too() -> None:
    (row,) = tc.History.from_csv(tc.History([{"epoch": 1, "loss": float("nan")}]).to_csv()).rows
    assert row["epoch"] == 1
    assert row["loss"] != row["loss"]


def test_a_run_in_a_file(tmp_path: Path) -> None:
    history = run(network(), epochs=2)
    history.save(tmp_path / "history.csv")
    text = (tmp_path / "history.csv").read_text()
    assert tc.History.from_csv(text).rows == history.rows
    lines = list(csv.reader(text.splitlines()))
    assert lines[0] == list(history.rows[0])
    assert [line[0] for line in lines[1:]] == ["1", "2"]


def test_an_empty_history() -> None:
    history = tc.History()
    assert history.to_csv() == ""
    assert tc.History.from_csv("").rows == []
    assert len(history) == 0
    assert "loss" not in history
    assert history["loss"] == []


def test_columns_and_rows() -> None:
    history = tc.History([{"loss": 3.0}, {"loss": 1.0, "val_loss": 2.0}, {"loss": 1.0}])
    assert history["loss"] == [3.0, 1.0, 1.0]
    assert [row["loss"] for row in history] == [3.0, 1.0, 1.0]
    assert "loss" in history
    assert "val_loss" not in history  # not in every row
    with pytest.raises(KeyError, match="val_loss"):
        history["val_loss"]


def test_nan_is_never_best() -> None:
    figures = [float("nan"), 0.5, 0.25, float("nan")]
    history = tc.History([{"f1": f, "f1_loss": f, "none": np.nan} for f in figures])
    assert history.best("f1") is history.rows[1]
    assert history.best("f1_loss") is history.rows[2]
    assert history.best("none") is history.rows[0]


def test_the_best_row_is_the_first_of_the_best() -> None:
    rows = [
        {"epoch": 1, "loss": 2.0, "accuracy": 0.5},
        {"epoch": 2, "loss": 1.0, "accuracy": 0.7, "val_loss": 9.0},
        {"epoch": 3, "loss": 1.0, "accuracy": 0.7},
    ]
    history = tc.History(rows)
    assert history.best("loss")["epoch"] == 2
    assert history.best("accuracy")["epoch"] == 2
    assert history.best("val_loss")["epoch"] == 2
    with pytest.raises(KeyError, match="no row of the history has 'top_5'"):
        history.best("top_5")


def test_a_row_is_copied() -> None:
    history, row = tc.History(), {"loss": 1.0}
    history.append(row)
    row["loss"] = 2.0
    assert history["loss"] == [1.0]


def test_a_column_that_some_rows_lack():
    history = tc.History([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.4, "test": 0.9}])
    with pytest.raises(KeyError, match="not every row of the history has 'test'; there are epoch"):
        history["test"]
    assert history.best("test")["epoch"] == 2
