"""What factors would print: their rates here, put into the reported test set; and their summary."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from studies.gap.enumeration import PARTS, Reading, Reported, named_values, splits
from studies.gap.factors import GROUPS
from studies.gap.interventions import ARGUED, MISTAKE, NOT_RUN, NUMERICAL, Control, Row
from studies.gap.number_factors import SAME_BITS, WHOLE

DRAWS = 20_000  # of rates, splits and counts, for one interval
MIDDLE = (0.025, 0.975)
MARK = f"{WHOLE}: "  # before the factors that are changed in whole numbers


@dataclass(frozen=True)
class Effect:
    """A factor's row, and what it would print.

    Parameters
    ----------
    row : Row
    public, private : tuple of float or None
        Predictive 95 % interval of F1 over that part; ``None`` without labels or figures.
    inside : tuple of str
        The printed values that lie in the interval of their part.
    """

    row: Row
    public: tuple[float, float] | None = None
    private: tuple[float, float] | None = None
    inside: tuple[str, ...] = ()


def predicted_f1(
    hits: tuple[int, int], alarms: tuple[int, int], reading: Reading, *, seed: int
) -> np.ndarray:
    """Draw F1 of the public and the private part from rates that were counted elsewhere.

    Sensitivity and false-alarm rate are drawn from Beta(k + 1/2, n - k + 1/2), what Jeffreys' prior
    leaves after k of n: also none or all of n leave a spread.  Then the split is drawn, and the
    flags in each part.

    Parameters
    ----------
    hits, alarms : tuple of int
        Flagged of all anomalous, and of all normal images.

    Returns
    -------
    array of float, shape (2, DRAWS)
    """
    generator = np.random.default_rng(seed)
    rates = [generator.beta(k + 0.5, n - k + 0.5, DRAWS) for k, n in (hits, alarms)]
    found, chances = splits(reading)
    sizes, counts = np.array(found)[generator.choice(len(found), DRAWS, p=chances)].T
    f1 = []
    public = (counts, sizes - counts)
    everything = (reading.n_anomalous, reading.n_normal)
    whole = reading.private == "all"
    rest = tuple(n - (0 if whole else part) for n, part in zip(everything, public, strict=True))
    for positives, negatives in (public, rest):
        tp, fp = generator.binomial(positives, rates[0]), generator.binomial(negatives, rates[1])
        f1.append(2 * tp / np.maximum(tp + fp + positives, 1))
    return np.array(f1)


def predict(
    control: Control, rows: Sequence[Row], models: Sequence[Reported], reading: Reading
) -> list[Effect]:
    """Predict, for each row with hits, what it would print in the reported test set."""
    if control.labels is None or not splits(reading)[0]:
        return [Effect(row) for row in rows]
    positives = int((control.labels == 1).sum())
    negatives = len(control.labels) - positives
    effects = []
    for row in rows:
        if row.hits is None:
            effects.append(Effect(row))
            continue
        alarms = (row.n_flagged - row.hits, negatives)
        drawn = predicted_f1((row.hits, positives), alarms, reading, seed=control.case.seed)
        public, private = (tuple(np.quantile(own, MIDDLE).tolist()) for own in drawn)
        inside = [
            f"{model.name} {part}"
            for model in models
            for part, (low, high) in zip(PARTS, (public, private), strict=True)
            if low <= float(getattr(model, part)) <= high
        ]
        effects.append(Effect(row, public, private, tuple(inside)))
    return effects


def tried(effects: Sequence[Effect]) -> list[Effect]:
    """Return the factors with figures, without the control."""
    return [effect for effect in effects[1:] if effect.row.how not in (ARGUED, NOT_RUN)]


def summary(effects: Sequence[Effect], models: Sequence[Reported]) -> dict[str, object]:
    """Gather what the factors say, for JSON; the control comes first in ``effects``."""
    control, found, values = effects[0].row, tried(effects), named_values(models)
    # Those in whole numbers are held against another run and counted apart.
    steady = [e.row for e in found if e.row.kind == NUMERICAL and MARK not in e.row.factor]
    widest = max(steady, key=lambda row: row.flags_changed, default=None)
    labelled = control.f1 is not None
    reaching = [effect for effect in found if len(effect.inside) == len(values)]
    return {
        "control_f1": control.f1,
        "n_factors": len(found),
        "argued": [effect.row.factor for effect in effects if effect.row.how == ARGUED],
        "not_run": [effect.row.factor for effect in effects if effect.row.how == NOT_RUN],
        "n_numerical": len(steady),
        "numerical_without_effect": sum(row.flags_changed == 0 for row in steady),
        "largest_numerical_change": widest.flags_changed if widest else 0,
        "widest_numerical": widest.factor if widest else None,
        "largest_numerical_f1_change": (
            max((abs(row.f1 - control.f1) for row in steady), default=0.0) if labelled else None
        ),
        "whole_numbers": whole_numbers(effects),
        "reach_all": {effect.row.factor: effect.row.kind for effect in reaching},
        "reach_all_without_mistake": [e.row.factor for e in reaching if e.row.kind != MISTAKE],
        "reach_none": [effect.row.factor for effect in found if labelled and not effect.inside],
    }


def whole_numbers(effects: Sequence[Effect]) -> dict[str, object]:
    """Count what machines and libraries moved in whole numbers, and in float32 beside them."""
    rows = {effect.row.factor: effect.row for effect in tried(effects)}
    changed = {name.removeprefix(MARK): row for name, row in rows.items() if MARK in name}
    return {
        "changes": list(changed),
        "same_bits": [name for name, row in changed.items() if SAME_BITS in row.note],
        "float32_other_bits": [name for name in changed if SAME_BITS not in rows[name].note],
    }


def group_rows(effects: Sequence[Effect], models: Sequence[Reported]) -> list[dict[str, object]]:
    """Sum each group up in one line."""
    n_values, control = len(named_values(models)), effects[0].row
    lines = []
    for group in GROUPS:
        own = [effect for effect in tried(effects) if effect.row.group == group]
        others = [e for e in effects if e.row.group == group and e not in own]
        widest = max(own, key=lambda e: e.row.flags_changed)
        line = {
            "group": group,
            "factors": len(own),
            "argued or not run": len(others),
            "flags changed, at most": widest.row.flags_changed,
            "by": widest.row.factor,
        }
        if control.f1 is not None:
            values = [effect.row.f1 for effect in own]
            line["F1"] = f"{min(values):.3f} to {max(values):.3f}"
            reach = sum(len(effect.inside) == n_values for effect in own)
            line[f"could print all {n_values} values"] = reach
        lines.append(line)
    return lines


def full_rows(effects: Sequence[Effect], models: Sequence[Reported]) -> list[dict[str, object]]:
    """Tabulate every factor with figures, those that change most flags first in each group."""
    n_values = len(named_values(models))
    shown = [effects[0], *tried(effects)]
    order = ["control", *GROUPS]
    shown.sort(key=lambda e: (order.index(e.row.group), -e.row.flags_changed))
    return [
        {
            "group": effect.row.group,
            "factor": effect.row.factor,
            "kind": effect.row.kind,
            "how": effect.row.how,
            "flags": effect.row.n_flagged,
            "changed": effect.row.flags_changed,
            "F1": effect.row.f1,
            "AUROC": effect.row.image_auroc,
            "public part": interval(effect.public),
            "private part": interval(effect.private),
            "printed values inside": f"{len(effect.inside)} of {n_values}",
            "note": effect.row.note,
        }
        for effect in shown
    ]


def argued_rows(effects: Sequence[Effect]) -> list[dict[str, str]]:
    """Tabulate what was argued instead of run, and what could not be run."""
    return [
        {"group": e.row.group, "hypothesis": e.row.factor, "how": e.row.how, "why": e.row.note}
        for e in effects
        if e.row.how in (ARGUED, NOT_RUN)
    ]


def interval(ends: tuple[float, float] | None) -> str:
    """Write an interval; empty where there is none."""
    return "" if ends is None else f"{ends[0]:.2f} to {ends[1]:.2f}"


def table(effects: Sequence[Effect]) -> tuple[list[str], list[list[object]]]:
    """Return header and rows of the CSV table."""
    rows = []
    for effect in effects:
        ends: Mapping[str, object] = {
            f"{part}_{end}": None if pair is None else pair[number]
            for part, pair in (("public", effect.public), ("private", effect.private))
            for number, end in enumerate(("low", "high"))
        }
        rows.append({**asdict(effect.row), **ends, "inside": "; ".join(effect.inside)})
    return list(rows[0]), [list(row.values()) for row in rows]
