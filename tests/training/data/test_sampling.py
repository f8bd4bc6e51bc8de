"""Orders, random numbers, and what is split off."""

import numpy as np

from keras_en.training.data import sampling


def test_order_by_hand():
    np.testing.assert_array_equal(sampling.order(4, None, 3, None), [0, 1, 2, 3])
    order = sampling.order(100, 1, 2, None)
    assert sorted(order) == list(range(100)) and list(order) != sorted(order)


def test_numbers_of_batches_epochs_and_seeds_differ():
    keys = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (1, 1, 0)]
    rows = {tuple(sampling.uniform(*key, (3,))) for key in keys}
    assert len(rows) == len(keys)


def test_rows_of_blocks(monkeypatch):
    monkeypatch.setattr(sampling, "BLOCK", 4)
    row = sampling.uniform_rows(1, 2, 3)
    expected = np.concatenate([sampling.uniform(1, 2, i, (4, 3)) for i in range(3)])
    for sample in (11, 0, 5, 4):
        np.testing.assert_array_equal(row(sample), expected[[sample]])


def test_a_fifth_of_each_class_and_never_all_of_one():
    strata = np.repeat([0, 1, 2, 3], [50, 10, 2, 1])
    chosen = sampling.small_part(strata, 0.2, 0)
    assert [chosen[strata == i].sum() for i in range(4)] == [10, 2, 1, 0]
    assert (sampling.small_part(strata, 0.2, 1) != chosen).any()
