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


@pytest.mark.parametrize("is_balanced", [False, True])
def test_source_that_is_not_drawn_counts_in_the_length_of_an_epoch(is_balanced):
    labels = [0] * 400 + [1] * 600
    kwargs = {"batch_size": 64, "is_balanced": is_balanced, "draws_source": False}
    batches = make_batches(10, 1000, labels, **kwargs)
    assert len(batches) == len(list(batches)) == 16
    for batch in batches:
        assert (batch.n_source, len(batch.x), batch.y) == (0, 10, None)


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


def test_each_pass_of_an_epoch_has_an_order_of_its_own():
    batches = make_batches(40, 200, batch_size=8)  # five passes over the target
    drawn = torch.cat([target_rows(batch) for batch in batches]).view(-1, 40)
    assert len(drawn) == 5
    assert len({tuple(order.tolist()) for order in drawn}) == 5
    assert all(torch.equal(order.sort().values, torch.arange(40)) for order in drawn)


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


# labelled target rows -----------------------------------------------------------------------------


def with_shots(n_target, y_target, n_source=None, *, seed=0, device="cpu", **kwargs):
    """Batches as of `make_batches`, with classes of target rows."""
    plain = make_batches(n_target, n_source, seed=seed, device=device)
    y_target = None if y_target is None else torch.as_tensor(y_target, device=device)
    return DomainBatches(
        plain.X_target,
        plain.X_source,
        y_target=y_target,
        generator=make_generator(seed, device),
        **kwargs,
    )


def shot_rows(batch):
    return (batch.x[batch.n_rows :, 0] - 1).long()


def few_labels(n_target, n_labelled, *, n_classes=3):
    """Labels of rows spread over the target, -1 elsewhere."""
    y = np.full(n_target, -1)
    rows = np.random.default_rng(0).choice(n_target, n_labelled, replace=False)
    y[rows] = np.arange(n_labelled) % n_classes
    return y


@pytest.mark.parametrize("n_source", [None, 20, 90])
@pytest.mark.parametrize("n_labelled", [1, 6, 40])
def test_every_batch_holds_all_labelled_target_rows(device, n_source, n_labelled):
    y = few_labels(40, n_labelled)
    batches = with_shots(40, y, n_source, batch_size=16, device=device)
    for batch in batches:
        assert shot_rows(batch).tolist() == np.flatnonzero(y >= 0).tolist()
        assert batch.y_shots.tolist() == y[y >= 0].tolist()
        assert len(batch.x) == batch.n_rows + n_labelled
        assert batch.n_rows == batch.n_source + len(batch.target_index)
        assert torch.equal((batch.x[batch.n_source : batch.n_rows, 0] - 1).long(),
                           batch.target_index)  # fmt: skip


def test_as_many_labelled_rows_as_a_batch_may_hold_are_all_in_it():
    y = few_labels(400, 256)
    for batch in with_shots(400, y, batch_size=100):
        assert shot_rows(batch).tolist() == np.flatnonzero(y >= 0).tolist()


@pytest.mark.parametrize("n_labelled", [257, 300, 600])
def test_of_more_labelled_rows_each_batch_holds_256_others(device, n_labelled):
    y = few_labels(700, n_labelled)
    batches = with_shots(700, y, batch_size=64, device=device)
    drawn = [shot_rows(batch).cpu().numpy() for _ in range(2) for batch in batches]
    assert len(drawn) == 2 * len(batches)
    assert all(len(rows) == 256 and (y[rows] >= 0).all() for rows in drawn)
    assert len({tuple(sorted(rows)) for rows in drawn}) == len(drawn)  # they change
    for batch in batches:
        assert batch.y_shots.tolist() == y[shot_rows(batch).cpu().numpy()].tolist()


@pytest.mark.parametrize("n_labelled", [257, 300, 600])
def test_labelled_rows_are_drawn_alike(n_labelled):
    y = few_labels(700, n_labelled)
    drawn = torch.cat([shot_rows(batch) for batch in with_shots(700, y, batch_size=64)])
    counts = np.bincount(drawn.numpy(), minlength=700)
    assert set(counts[y < 0]) <= {0}
    assert np.ptp(counts[y >= 0]) <= 1
    assert counts[y >= 0].min() >= 1


@pytest.mark.parametrize(("n_labelled", "n_pool"), [(1, 39), (19, 21), (20, 40), (39, 40)])
def test_few_labelled_rows_are_not_drawn_among_the_others(device, n_labelled, n_pool):
    y = few_labels(40, n_labelled)
    batches = with_shots(40, y, batch_size=64, device=device)
    (batch,) = batches
    assert len(batch.target_index) == n_pool
    wanted = np.flatnonzero(y < 0) if n_pool < 40 else np.arange(40)
    assert sorted(batch.target_index.tolist()) == wanted.tolist()


@pytest.mark.parametrize("n_source", [None, 30])
@pytest.mark.parametrize(("n_labelled", "is_given"), [(0, False), (0, True), (20, True)])
def test_other_rows_are_the_same_bit_for_bit_with_and_without_labels(
    device, n_source, n_labelled, is_given
):
    y = few_labels(40, n_labelled) if is_given else None
    labelled = with_shots(40, y, n_source, batch_size=16, device=device)
    plain = make_batches(40, n_source, batch_size=16, device=device)
    for _ in range(2):
        for batch, expected in zip(labelled, plain, strict=True):
            assert torch.equal(batch.x[: batch.n_rows], expected.x)
            assert torch.equal(batch.target_index, expected.target_index)
            assert expected.y_shots is None
            assert len(batch.x) - batch.n_rows == n_labelled
            assert (batch.y_shots is None) == (n_labelled == 0)


def test_bytes_of_labelled_rows_become_floats_too():
    X = torch.tensor([[0], [51], [255]], dtype=torch.uint8)
    y = torch.tensor([-1, 0, 1])
    (batch,) = DomainBatches(X, y_target=y, generator=make_generator(0, "cpu"))
    torch.testing.assert_close(batch.x[3:, 0], torch.tensor([0.2, 1.0]))
    assert batch.y_shots.tolist() == [0, 1]


@pytest.mark.parametrize("n_labelled", [512, 1024])
def test_labelled_rows_of_a_batch_are_distinct_within_a_permutation(n_labelled):
    y = few_labels(1100, n_labelled)
    drawn = [shot_rows(batch) for batch in with_shots(1100, y, batch_size=100)]
    n_parts = n_labelled // 256
    for i in range(0, len(drawn) - n_parts + 1, n_parts):
        rows = torch.cat(drawn[i : i + n_parts])  # one permutation: every labelled row once
        assert sorted(rows.tolist()) == np.flatnonzero(y >= 0).tolist()
