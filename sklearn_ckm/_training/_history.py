"""The history of a phase, as estimators show it."""


def epoch_records(net):
    """History of a net as plain dicts, with the phase, without its batches."""
    left_out = ("batches", "train_loss", "train_loss_best")
    records = [{k: v for k, v in row.items() if k not in left_out} for row in net.history]
    # skorch's loggers take every value of its own history for a number
    return [{"phase": net.phase, **record} for record in records]
