"""Which epoch is best, and when to give up.

The rule: the **best** epoch is the first with the lowest validation loss, however small the gain; its value
and weights are those recorded. **Patience** counts epochs whose loss is not more than ``min_delta`` below the
loss of the last epoch that counted as progress, so that many small gains do add up to progress; a relative
``min_delta`` is a share of that loss.
"""

from finscale.core.config import Record
from finscale.training.config import TrainingConfig

__all__ = ["EarlyStopping"]


class EarlyStopping(Record):
    """What is known after some epochs; `after` returns the state one epoch on.

    Parameters
    ----------
    best_loss, best_epoch : float, int or None
        Lowest validation loss so far and its epoch, counted from 1.
    reference : float or None
        Loss that the next epoch must undercut by more than ``min_delta``.
    n_bad_epochs : int
        Epochs since the reference moved.
    """

    best_loss: float | None = None
    best_epoch: int | None = None
    reference: float | None = None
    n_bad_epochs: int = 0

    def after(self, val_loss: float, *, epoch: int, training: TrainingConfig) -> "EarlyStopping":
        """Return the state after ``epoch`` ended with ``val_loss``."""
        best = self.best_loss is None or val_loss < self.best_loss
        progress = self.reference is None or val_loss < self.reference - _margin(self.reference, training)
        return EarlyStopping(
            best_loss=val_loss if best else self.best_loss,
            best_epoch=epoch if best else self.best_epoch,
            reference=val_loss if progress else self.reference,
            n_bad_epochs=0 if progress else self.n_bad_epochs + 1,
        )

    def exhausted(self, training: TrainingConfig) -> bool:
        """Whether patience has run out."""
        return self.n_bad_epochs >= training.patience


def _margin(reference: float, training: TrainingConfig) -> float:
    relative = training.min_delta_mode == "relative"
    return training.min_delta * (abs(reference) if relative else 1.0)
