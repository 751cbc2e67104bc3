"""What a printed F1 can come from: every confusion table that prints it, and a likelihood.

F1 = 2 TP / (flags + anomalous images) is a fraction of small whole numbers, so a printed value
leaves few tables.  All of them are listed, for every split of the test set into a public and a
private part, and weighed by how often a detector of given rates makes them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

import numpy as np
import pandas as pd
from scipy.stats import betabinom, binom, hypergeom

STEPS = 100  # of Youden's J from 0 to 1
COUNTS = ["public_images", "public_anomalous", "public_tp", "public_fp", "tp", "fp"]


def prints(top: np.ndarray, below: np.ndarray, text: str) -> np.ndarray:
    """Tell which fractions ``top / below`` print as ``text``, rounded or cut off.

    Integers are compared, so no border is lost to rounding; a half may round either way.

    Parameters
    ----------
    top, below : arrays of int
        A zero ``below`` never prints.
    text : str
        A decimal such as ``0.44``, with the digits that were printed.

    Raises
    ------
    ValueError
        When the text is no decimal from 0 to 1.
    """
    whole, _, behind = text.partition(".")
    if not (whole.isdigit() and (behind.isdigit() or "." not in text) and Fraction(text) <= 1):
        raise ValueError(f"{text!r} is no printed F1; write a decimal from 0 to 1, such as '0.44'")
    scale = 10 ** len(behind)
    value = int(Fraction(text) * scale) * below
    rounded = abs(2 * top * scale - 2 * value) <= below
    cut = (value <= top * scale) & (top * scale < value + below)
    return (rounded | cut) & (below > 0)


def tables_printing(text: str, positives: int, negatives: int) -> np.ndarray:
    """List the confusion tables (TP, FP) of a part of the test set whose F1 prints as ``text``.

    Returns
    -------
    array of int, shape (n_tables, 2)
    """
    tp, fp = np.mgrid[: positives + 1, : negatives + 1]
    return np.argwhere(prints(2 * tp, tp + fp + positives, text))


@dataclass(frozen=True)
class Case:
    """Printed values, and the test set behind them.

    Parameters
    ----------
    reported : mapping of str to (str, str)
        Public and private F1 of each model, digit by digit.
    n_images, n_anomalous : int
    public_sizes : tuple of int
        Possible numbers of public images, each as likely as the others; which images are public is
        drawn at random.
    other_private : str, optional
        Private F1 that another entrant printed: only splits whose private part can print it stay.
    flags : tuple of int
        Least and greatest number of flags in all that a detector is set to raise, each as likely.
    """

    reported: Mapping[str, tuple[str, str]]
    n_images: int = 100
    n_anomalous: int = 40
    public_sizes: tuple[int, ...] = tuple(range(10, 95, 5))
    other_private: str | None = None
    flags: tuple[int, int] = (30, 50)

    @property
    def n_normal(self) -> int:
        """Count the normal images."""
        return self.n_images - self.n_anomalous

    @cached_property
    def splits(self) -> pd.DataFrame:
        """List the splits: ``public_images``, ``public_anomalous`` and their ``chance``."""
        rows = [
            (size, count, hypergeom.pmf(count, self.n_images, self.n_anomalous, size))
            for size in self.public_sizes
            for count in range(max(0, size - self.n_normal), min(size, self.n_anomalous) + 1)
            if self._other_fits(size, count)
        ]
        if not rows:
            raise ValueError(f"no split prints the other entrant's {self.other_private}")
        found = pd.DataFrame(rows, columns=["public_images", "public_anomalous", "chance"])
        return found.assign(chance=found.chance / found.chance.sum())

    def _other_fits(self, size: int, count: int) -> bool:
        left = self.n_anomalous - count, self.n_normal - size + count
        return self.other_private is None or len(tables_printing(self.other_private, *left)) > 0

    @cached_property
    def explanations(self) -> dict[str, pd.DataFrame]:
        """List, model by model, each split and pair of tables that print both values.

        Columns are ``split`` (its row in `splits`), `COUNTS`, and ``share``: the chance that so
        many hits and false alarms in all fall into the two parts like that.
        """
        return {model: self._explain(*values) for model, values in self.reported.items()}

    def _explain(self, public: str, private: str) -> pd.DataFrame:
        parts = []
        for split, size, count in self.splits[["public_images", "public_anomalous"]].itertuples():
            one = tables_printing(public, count, size - count)
            left = self.n_anomalous - count, self.n_normal - size + count
            two = tables_printing(private, *left)
            pairs = np.repeat(one, len(two), axis=0), np.tile(two, (len(one), 1))
            head = np.broadcast_to([split, size, count], (len(pairs[0]), 3))
            parts.append(np.hstack([head, pairs[0], pairs[0] + pairs[1]]))
        found = pd.DataFrame(np.concatenate(parts), columns=["split", *COUNTS])
        normals = found.public_images - found.public_anomalous
        share = hypergeom.pmf(
            found.public_tp, self.n_anomalous, found.public_anomalous, found.tp
        ) * hypergeom.pmf(found.public_fp, self.n_normal, normals, found.fp)
        return found.assign(share=share)

    def by_split(self, tables: np.ndarray) -> np.ndarray:
        """Probability of all printed values together, split by split.

        Given the split and the rates, models are independent of each other.

        Parameters
        ----------
        tables : array, shape (causes, n_anomalous + 1, n_normal + 1)
            Probability of each (TP, FP) in all.

        Returns
        -------
        array, shape (causes, n_splits)
            With the split's own chance in it.
        """
        product = np.tile(self.splits.chance.to_numpy(), (len(tables), 1))
        for found in self.explanations.values():
            terms = tables[:, found.tp, found.fp] * found.share.to_numpy()
            product *= [np.bincount(found.split, row, len(self.splits)) for row in terms]
        return product

    def likelihood(self, tables: np.ndarray) -> np.ndarray:
        """Probability of all printed values under each cause, shape (causes,)."""
        return self.by_split(tables).sum(axis=1)

    # Causes, as tables over (TP, FP)

    def informed(self, youden: float) -> np.ndarray:
        """Table of a detector whose flags carry an amount of information.

        Youden's J is sensitivity minus false-alarm rate: 0 for flags at random, 1 for a perfect
        detector.  For each number of flags F in ``flags`` the rates are those that expect F flags
        and differ by J (or by as much as so many flags allow).
        """
        return np.mean([self._rates(youden, flags) for flags in self._flag_range], axis=0)

    @property
    def _flag_range(self) -> range:
        return range(self.flags[0], self.flags[1] + 1)

    def _rates(self, youden: float, flags: int) -> np.ndarray:
        n, positives, negatives = self.n_images, self.n_anomalous, self.n_normal
        top = min(flags / positives, (n - flags) / negatives)
        low = -min(flags / negatives, (n - flags) / positives)
        youden = np.clip(youden, low, top)
        hits = binom.pmf(np.arange(positives + 1), positives, (flags + negatives * youden) / n)
        alarms = binom.pmf(np.arange(negatives + 1), negatives, (flags - positives * youden) / n)
        return np.outer(hits, alarms)

    def counted(self, hits: int, anomalous: int, alarms: int, normal: int) -> np.ndarray:
        """Table of a detector whose rates were counted on other images.

        After k flags of n images of a class a rate is Beta(k + 1/2, n - k + 1/2) (Jeffreys'
        prior), so flags among other images of that class are beta-binomial.
        """
        tp, fp = np.arange(self.n_anomalous + 1), np.arange(self.n_normal + 1)
        return np.outer(
            betabinom.pmf(tp, self.n_anomalous, hits + 0.5, anomalous - hits + 0.5),
            betabinom.pmf(fp, self.n_normal, alarms + 0.5, normal - alarms + 0.5),
        )

    def evened(self, table: np.ndarray) -> np.ndarray:
        """Give a cause every number of flags in ``flags`` as often; its hits among so many stay.

        What is left of a detector is how much its flags tell, not how many it raises.
        """
        total = np.add.outer(np.arange(len(table)), np.arange(table.shape[1]))
        marginal = np.bincount(total.ravel(), table.ravel())
        window = np.isin(np.arange(len(marginal)), self._flag_range) & (marginal > 0)
        weight = np.divide(1.0, marginal, out=np.zeros_like(marginal), where=window)
        return table * weight[total] / window.sum()

    def profile(self, least: int = 0) -> pd.Series:
        """Likelihood of the printed values over Youden's J from ``least`` (0 or -1) to 1."""
        youden = np.arange(least * STEPS, STEPS + 1) / STEPS
        tables = np.stack([self.informed(each) for each in youden])
        return pd.Series(self.likelihood(tables), index=pd.Index(youden, name="J"))

    def likeliest(self) -> pd.DataFrame:
        """Return each model's likeliest flags and hits in all, if flags carry no information."""
        table = self.informed(0.0)
        whole = self.by_split(table[None])[0]
        rows = {}
        for model, found in self.explanations.items():
            own = table[found.tp, found.fp] * found.share
            per_split = np.bincount(found.split, own, len(self.splits))
            rest = np.divide(whole, per_split, out=np.zeros_like(whole), where=per_split > 0)
            chance = own * rest[found.split] / whole.sum()  # of each explanation, given all values
            totals = chance.groupby([found.tp, found.fp]).sum()
            tp, fp = totals.idxmax()
            rows[model] = {
                "flags": tp + fp,
                "right": tp,
                "right by luck": (tp + fp) * self.n_anomalous / self.n_images,
                "F1": 2 * tp / (tp + fp + self.n_anomalous),
                "probability": totals.max(),
            }
        return pd.DataFrame(rows).T

    def flag_counts(self, model: str) -> pd.DataFrame:
        """List the numbers of flags that print a model's pair, over public parts of every size.

        ``after_private``: whether so many flags can have been all right in the private part, one
        for each of its anomalous images, before their order was lost.  Reordering keeps the number.
        """
        every = tuple(range(1, self.n_images))
        found = replace(self, public_sizes=every)._explain(*self.reported[model])
        flags, right = found.tp + found.fp, self.n_anomalous - found.public_anomalous
        able = (right <= flags) & (flags <= right + found.public_images)
        return pd.DataFrame({"flags": flags, "after_private": able}).groupby("flags").any()


def upper_bound(profile: pd.Series, level: float = 0.95) -> float:
    """Return the J that the true one is below with this probability, each J as likely before."""
    share = profile.cumsum() / profile.sum()
    return float(share.index[(share >= level).argmax()])


def random_f1(flags: int, n_images: int = 100, n_anomalous: int = 40) -> float:
    """Return the F1 of so many flags given to images at random, with the mean number of hits."""
    return 2 * flags * n_anomalous / n_images / (flags + n_anomalous)
