"""The history of a phase, as estimators show it."""


def epoch_records(net):
    """History of a net as plain dicts, without its batches."""
    left_out = ("batches", "train_loss", "train_loss_best")
    return [{k: v for k, v in row.items() if k not in left_out} for row in net.history]
