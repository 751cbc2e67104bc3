"""What the runs show, in words and tables made from their numbers."""

from collections.abc import Mapping, Sequence

import numpy as np

from studies.augmentation.effects import Effect
from studies.augmentation.repeats import PLAIN, Departure, Repeats
from studies.shared.rates import rate_in_words

LEVEL = 0.01


def level_of_each(departures: Sequence[Departure]) -> float:
    """Return the level of one test, so that both tests of all kinds together keep `LEVEL`."""
    return LEVEL / (2 * len(departures))


def departure_rows(departures: Sequence[Departure]) -> list[dict[str, object]]:
    """List counts, tests and verdicts of each change."""
    level = level_of_each(departures)
    return [
        {
            "change": d.kind,
            "flagged unchanged": f"{d.plain} of {d.n_images}",
            "flagged changed, bank without copies": f"{d.before} of {d.n_images}",
            "with copies": f"{d.after} of {d.n_images}",
            "p (leaves)": f"{d.p_leaves:.2g}",
            "p (hidden)": f"{d.p_hidden:.2g}",
            "leaves the normal set": d.leaves(level),
            "copies hide it": d.hides(level),
        }
        for d in departures
    ]


def _departure_in_words(d: Departure, level: float) -> str:
    """Say what one change does; most changed normals must look like defects to be called so."""
    hides = d.hides(level)
    moves = hides and d.kind != "illumination" and d.before > d.n_images / 2
    verdict = (
        "; so few copies do not hide it"
        if not hides
        else ", and such copies hide a part of it"
        if d.after > d.n_images / 2
        else ", and such copies turn a defect into a normal"
        if moves
        else ", and such copies hide it"
    )
    advice = (
        "A part that comes so is less likely to be told."
        if moves
        else "Where a part may come so, the copies are wanted; where not, leave them out."
    )
    return (
        f"**`{d.kind}` leads out of the normal set{verdict}.** Without copies the detector flags "
        f"{rate_in_words(d.before, d.n_images)} of the changed normals, of the unchanged "
        f"{rate_in_words(d.plain, d.n_images)} (p {d.p_leaves:.2g}), with copies "
        f"{rate_in_words(d.after, d.n_images)} of the changed (p {d.p_hidden:.2g}). {advice}"
    )


def departures_in_words(departures: Sequence[Departure], control: str) -> str:
    """Say which changes lead out of the normal set, and which were not caught."""
    level = level_of_each(departures)
    others = [d for d in departures if d.kind != control]
    texts = [_departure_in_words(d, level) for d in others if d.leaves(level)]
    quiet = [f"{d.kind} (p {d.p_leaves:.2g})" for d in others if not d.leaves(level)]
    if not texts:
        texts.append("No change leads out of the normal set by this test.")
    if quiet:
        texts.append(f"Not caught: {', '.join(quiet)}. That is no proof that they are harmless.")
    return "\n\n".join(texts)


def control_in_words(departures: Sequence[Departure], control: str) -> str:
    """Say how much of what rotations and crops show is interpolation."""
    own = next(d for d in departures if d.kind == control)
    shifted, plain = (rate_in_words(k, own.n_images) for k in (own.before, own.plain))
    return (
        f"The control, shifted by half a pixel, is flagged in {shifted} of the cases, unchanged "
        f"in {plain} (p {own.p_leaves:.2g}): "
        + (
            "interpolation alone leads out of the normal set, so a part of what rotations and "
            "crops show is blur."
            if own.leaves(level_of_each(departures))
            else "no more than chance allows at this level; interpolation explains at most that "
            "much of what rotations and crops show."
        )
    )


def _listed(found: Sequence[Effect]) -> str:
    return ", ".join(f"{e.kind} {e.change:+.3f} ({e.low:+.3f} to {e.high:+.3f})" for e in found)


def _verdicts(found: Sequence[Effect]) -> str:
    better, worse = ([e.kind for e in found if e.sure == sign] for sign in (1, -1))
    return f"Better: {', '.join(better) or 'none'}; worse: {', '.join(worse) or 'none'}."


def effects_in_words(found: Sequence[Effect]) -> str:
    """Say which copies change AUROC, against no copies and against the control's."""
    if not found:
        return "Without test labels nothing is known about AUROC and F1."
    plain = [e for e in found if e.against == PLAIN]
    control = [e for e in found if e.against != PLAIN]
    return (
        f"Change of image AUROC against no copies, mean of the repeats; the intervals of all "
        f"{len(found)} comparisons hold together with 95 % (Bonferroni), and have the variance of "
        f"test images, normals, folds, coresets and copies in them: {_listed(plain)}. "
        f"{_verdicts(plain)}\n\nAgainst the control, which adds as many copies and only blurs "
        f"them: {_listed(control)}. {_verdicts(control)}"
    )


def defects_in_words(found: Sequence[Effect]) -> str:
    """Say for which defect AUROC falls most, and whether it surely does."""
    if not found:
        return "Without test labels nothing is known about single defects."
    lowest = min(found, key=lambda e: e.change)
    sure = [f"`{e.group}` with `{e.kind}`" for e in found if e.sure < 0]
    text = (
        f"AUROC falls most for `{lowest.group}` with `{lowest.kind}` ({lowest.change:+.3f}, "
        f"{lowest.low:+.3f} to {lowest.high:+.3f}). "
        if lowest.change < 0
        else "For no defect does AUROC fall with any change. "
    )
    return text + (
        f"It falls beyond doubt, all {len(found)} intervals together at 95 %, for: "
        f"{', '.join(sure) or 'none'}. The test set's defects need not be the ones that a change "
        f"hides: it may hold no part that came so."
    )


def limits_in_words(plan: Repeats, *, synthetic: bool) -> str:
    """Say what the runs do not carry."""
    return (
        f"{plan.number} repeats share training images and the test set, so their variance is a "
        f"rough one. Larger changes, more than {plan.n_copies} copies and larger banks were not "
        f"tried." + (" All images are synthetic." if synthetic else "")
    )


def summary(
    rows: Sequence[Mapping], departures: Sequence[Departure], found: Sequence[Effect]
) -> dict[str, dict[str, object]]:
    """Give each kind's figures for the metrics."""
    level, figures = level_of_each(departures), {}
    for kind in dict.fromkeys(row["copies"] for row in rows):
        own = [row for row in rows if row["copies"] == kind]
        alarms, n = (sum(row[key] for row in own) for key in ("false_alarms", "unseen_normals"))
        figures[kind] = {"false_alarm_rate": alarms / n}
        for key in ("image_auroc", "f1"):
            values = [row[key] for row in own]
            figures[kind][key] = None if None in values else float(np.mean(values))
    for d in departures:
        figures[d.kind] |= {
            "changed_normals_flagged_before": d.before / d.n_images,
            "changed_normals_flagged_after": d.after / d.n_images,
            "leaves_the_normal_set": d.leaves(level),
            "copies_hide_it": d.hides(level),
        }
    for e in found:
        name = "none" if e.against == PLAIN else "control"
        figures[e.kind][f"auroc_against_{name}"] = {
            "change": e.change,
            "low": e.low,
            "high": e.high,
        }
    return figures
