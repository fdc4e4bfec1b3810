import numpy as np
import pytest
import torch
from _oracles import torch_state_unchanged
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from sklearn_ckm._training._batches import DomainBatches, as_float
from sklearn_ckm.utils._random import make_generator


def make_batches(n_target, n_source=None, y=None, *, seed=0, device="cpu", **kwargs):
    """Batches whose rows hold their own index; those of the source are negative."""
    target = torch.arange(1.0, n_target + 1, device=device)[:, None]
    source = None if n_source is None else -torch.arange(1.0, n_source + 1, device=device)[:, None]
    if y is not None:
        y = torch.tensor(y, device=device)
    return DomainBatches(target, source, y, generator=make_generator(seed, device), **kwargs)


def source_rows(batch):
    return (-batch.x[: batch.n_source, 0] - 1).long()


def target_rows(batch):
    return (batch.x[batch.n_source :, 0] - 1).long()


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60) | st.none(), st.integers(1, 80))
def test_every_row_is_drawn_as_often_as_any_other_within_one(n_target, n_source, batch_size):
    batches = make_batches(n_target, n_source, batch_size=batch_size)
    drawn = list(batches)
    assert len(drawn) == len(batches)
    sizes = [(target_rows, n_target)] + ([] if n_source is None else [(source_rows, n_source)])
    for rows, n_rows in sizes:
        counts = torch.bincount(torch.cat([rows(batch) for batch in drawn]), minlength=n_rows)
        assert len(counts) == n_rows
        assert counts.min() >= 1
        assert counts.max() - counts.min() <= 1
    assert len({batch.x.shape for batch in drawn}) == 1  # constant sizes
    for batch in drawn:
        assert batch.n_source == (0 if n_source is None else min(batch_size, n_source))
        assert len(batch.x) - batch.n_source == min(batch_size, n_target)


@pytest.mark.parametrize(("n_target", "n_source"), [(1000, 10), (10, 1000)])
def test_imbalanced_domains_are_both_in_every_batch(device, n_target, n_source):
    batches = make_batches(n_target, n_source, [0] * n_source, batch_size=64, device=device)
    assert len(batches) == 16  # one pass over the larger domain
    for batch in batches:
        small, large = min(n_target, n_source), 64
        wanted = (large, small) if n_target < n_source else (small, large)
        assert (batch.n_source, len(batch.target_index)) == wanted
        assert (source_rows(batch) >= 0).all()
        assert torch.equal(target_rows(batch), batch.target_index)


def test_batch_size_above_the_domain_takes_it_whole():
    batches = make_batches(5, 3, batch_size=256)
    (batch,) = batches
    assert sorted(target_rows(batch).tolist()) == [0, 1, 2, 3, 4]
    assert sorted(source_rows(batch).tolist()) == [0, 1, 2]


def test_rows_and_labels_stay_together(device):
    y = [i % 3 for i in range(20)]
    for batch in make_batches(30, 20, y, batch_size=8, device=device):
        assert batch.y.tolist() == [y[i] for i in source_rows(batch).tolist()]
        assert batch.target_index.tolist() == target_rows(batch).tolist()


def test_no_labels_where_there_are_none():
    assert all(batch.y is None for batch in make_batches(10, 5, batch_size=4))
    assert all(batch.y is None for batch in make_batches(10, batch_size=4))


def test_order_changes_with_the_epoch_and_equal_seeds_agree(device):
    y = [i % 2 for i in range(40)]

    def epochs(seed, **kwargs):
        batches = make_batches(50, 40, y, seed=seed, batch_size=16, device=device, **kwargs)
        return [torch.cat([batch.x for batch in batches]) for _ in range(2)]

    for is_balanced in (False, True):
        first, again = (epochs(0, is_balanced=is_balanced) for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
        assert not torch.equal(*first)
        assert not torch.equal(first[0], epochs(1, is_balanced=is_balanced)[0])


def test_global_random_state_is_left_alone():
    with torch_state_unchanged():
        for _ in make_batches(50, 40, [0] * 40, batch_size=16, is_balanced=True):
            pass


def test_bytes_become_floats_in_the_unit_interval(device):
    X = torch.tensor([[0, 51], [255, 102]], dtype=torch.uint8, device=device)
    before = X.clone()
    (batch,) = DomainBatches(X, X, generator=make_generator(0, device))
    assert batch.x.dtype == torch.float32
    assert set(batch.x.unique().cpu().numpy().round(6)) == set(
        np.float32([0, 0.2, 0.4, 1]).round(6)
    )
    assert torch.equal(X, before)


def test_floats_are_left_as_they_are():
    x = torch.tensor([0.0, 255.0])
    assert as_float(x) is x


def drawn_source_rows(y, *, n_epochs=40, **kwargs):
    batches = make_batches(len(y), len(y), y, batch_size=100, **kwargs)
    return torch.cat([source_rows(b) for _ in range(n_epochs) for b in batches]).numpy()


def test_balanced_sampling_draws_every_class_and_every_row_of_it_alike():
    y = np.repeat([0, 1, 2], [900, 80, 20])
    classes = np.bincount(y[drawn_source_rows(y, is_balanced=True)])
    assert chisquare(classes).pvalue > 1e-3
    # the broken variant: sampling as it comes
    assert chisquare(np.bincount(y[drawn_source_rows(y)])).pvalue < 1e-10

    rows = np.bincount(drawn_source_rows(y, is_balanced=True), minlength=len(y))
    assert chisquare(rows[y == 2]).pvalue > 1e-3
    assert chisquare(rows[y == 0]).pvalue > 1e-3


def test_unlabelled_rows_keep_their_share_under_balanced_sampling():
    y = np.repeat([-1, 0, 1], [600, 350, 50])
    codes = y[drawn_source_rows(y, is_balanced=True)]
    counts = np.bincount(codes + 1)
    expected = len(codes) * np.array([0.6, 0.2, 0.2])
    assert chisquare(counts, expected).pvalue > 1e-3


def test_balanced_sampling_of_unlabelled_and_of_missing_classes():
    # nothing labelled: rows as they come; a class without rows: nothing to draw
    counts = np.bincount(drawn_source_rows(np.full(50, -1), is_balanced=True), minlength=50)
    assert chisquare(counts).pvalue > 1e-3
    y = np.repeat([0, 2], [90, 10])
    classes = np.bincount(y[drawn_source_rows(y, is_balanced=True)])
    assert chisquare(classes[[0, 2]]).pvalue > 1e-3


def test_target_is_covered_under_balanced_sampling():
    batches = make_batches(300, 20, [0, 1] * 10, batch_size=64, is_balanced=True)
    drawn = torch.cat([target_rows(batch) for batch in batches])
    assert len(drawn.unique()) == 300
