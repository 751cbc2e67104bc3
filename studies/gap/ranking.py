"""Weigh factors as causes of printed values, and sum them up."""

from collections.abc import Mapping, Sequence

import numpy as np

from studies.gap.forensics import (
    ROWS_PERMUTED,
    Reading,
    Reported,
    likelihoods,
    measured_cause,
    standard_causes,
)
from studies.gap.interventions import MISTAKE, NOT_RUN, NUMERICAL, Row

DECISIVE = 2.0  # log10 of a Bayes factor; Jeffreys' word for more than 100


def weigh(
    rows: Sequence[Row],
    labels: np.ndarray | None,
    models: Sequence[Reported],
    reading: Reading,
    *,
    working: float,
) -> list[float | None]:
    """Weigh each row as the cause of the reported values: log10 Bayes factors.

    The row's sensitivity and false-alarm rate, as uncertain as its images leave them, are put into
    the reported test set.  Factors are against a working detector whose rows are permuted.

    Returns
    -------
    list of float or None
        ``None`` for rows without labels, and where permuted rows cannot make the values.
    """
    if labels is None:
        return [None] * len(rows)
    n_anomalous, n_normal = int((labels == 1).sum()), int((labels == 0).sum())
    counted = [row for row in rows if row.hits is not None]
    causes = [
        measured_cause(
            row.factor,
            (row.hits, n_anomalous),
            (row.n_flagged - row.hits, n_normal),
            reading=reading,
        )
        for row in counted
    ]
    permuted = next(
        cause
        for cause in standard_causes(
            n_images=reading.n_images, n_anomalous=reading.n_anomalous, working=working, draws=1
        )
        if cause.name == ROWS_PERMUTED
    )
    against, *found = likelihoods(models, {reading: 1.0}, [permuted, *causes])
    if not against.value:
        return [None] * len(rows)
    with np.errstate(divide="ignore"):
        log10 = iter(np.log10([each.value / against.value for each in found]).tolist())
    return [None if row.hits is None else next(log10) for row in rows]


def summary(
    rows: Sequence[Row], reported: Mapping[str, float], log10: Sequence[float | None]
) -> dict[str, object]:
    """Say which factors can make the reported values, and the widest effect of the numerical ones.

    Parameters
    ----------
    rows : sequence of Row
        The control first.
    reported : mapping
        Printed F1 values.  A factor reaches one that lies in the factor's interval.
    log10 : sequence
        Of `weigh`, one a row.
    """
    control = rows[0]
    tried = [row for row in rows[1:] if row.how != NOT_RUN]
    numerical = [row for row in tried if row.kind == NUMERICAL]
    labelled = control.f1 is not None
    reaching = {
        row.factor: [n for n, value in reported.items() if row.f1_low <= value <= row.f1_high]
        for row in tried
        if labelled
    }
    weight = {row.factor: w for row, w in zip(rows, log10, strict=True) if w is not None}
    ranked = sorted((row for row in tried if row.factor in weight), key=lambda r: -weight[r.factor])
    strongest = [row for row in ranked if row.kind != MISTAKE][:1]
    return {
        "control_f1": control.f1,
        "n_factors": len(tried),
        "not_run": [row.factor for row in rows if row.how == NOT_RUN],
        "largest_numerical_change": max((r.flags_changed for r in numerical), default=0),
        "largest_numerical_f1_change": (
            max((abs(r.f1 - control.f1) for r in numerical), default=0.0) if labelled else None
        ),
        "reach_all": [factor for factor, names in reaching.items() if len(names) == len(reported)],
        "reach_none": [factor for factor, names in reaching.items() if not names],
        "ranked": [row.factor for row in ranked],
        "likely": [row.factor for row in ranked if weight[row.factor] > -DECISIVE],
        "best_without_mistake": strongest[0].factor if strongest else None,
        "log10_best_without_mistake": weight[strongest[0].factor] if strongest else None,
        "mistakes": [row.factor for row in tried if row.kind == MISTAKE],
    }
