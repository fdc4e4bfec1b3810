"""A progress bar over the epochs of a phase."""

from skorch.callbacks import Callback


class EpochProgressBar(Callback):
    """Shows the epochs of one phase, with the latest loss.

    Parameters
    ----------
    description : str
        What stands before the bar.
    """

    def __init__(self, description):
        self.description = description

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Open the bar."""
        from tqdm.auto import tqdm  # warns in a notebook without ipywidgets, already when imported

        self.bar_ = tqdm(total=net.max_epochs, desc=self.description, unit="epoch")

    def on_epoch_end(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        """Advance the bar."""
        self.bar_.set_postfix(loss=f"{net.history[-1]['loss']:.4g}", refresh=False)
        self.bar_.update(len(net.history) - self.bar_.n)

    def on_train_end(self, net, X=None, y=None, **kwargs):
        """Close the bar."""
        self.bar_.close()
