"""Labels that training never showed: refused where they are asked for, told of where they are read."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from finscale.core.errors import Fault
from finscale.windows.data import WindowData
from finscale.windows.vocabulary import shown_labels

__all__ = ["class_faults", "untrained_labels"]


def class_faults(windows: WindowData) -> Iterator[Fault]:
    """Yield the target columns of a classes task whose question training cannot teach.

    Every label that is asked for in validation or test, and at least two of them, must be the answer at
    some training origin.
    """
    for k, name in enumerate(windows.spec.target_columns if windows.spec.n_classes else ()):
        labels, trained = windows.spec.vocabularies[name], set(windows.targets_at("train")[:, k].astype(int))
        subject = f"data.target_columns {name}"
        if len(trained) < 2:
            rule, remedy = "have two labels among the training origins", "ask for another column"
            yield Fault(subject, rule, ", ".join(str(labels[code]) for code in trained), remedy)
            continue
        for split in ("val_select", "val_score", "test"):
            asked = set(windows.targets_at(split)[:, k].astype(int)) - trained
            if asked:
                got = f"{split} asks for {shown_labels([labels[code] for code in sorted(asked)])}"
                remedy = "merge rare labels, leave these rows out, or divide the table in another way"
                yield Fault(subject, "ask only for labels of training origins", got, remedy)


def untrained_labels(windows: WindowData, training_rows: NDArray[np.int64]) -> tuple[str, ...]:
    """Return a sentence for each column that shows labels which no training row does."""
    found = []
    for name, codes in zip(windows.spec.categories, windows.categories.T, strict=True):
        labels = windows.spec.vocabularies[name]
        unseen = np.setdiff1d(codes, codes[training_rows])
        if len(unseen):
            shown = shown_labels([labels[code] for code in unseen])
            found.append(f"{name} shows {shown} in no training row; their embeddings are never trained")
    return tuple(found)
