"""What folds and duplicates show, in words and tables made from the run's numbers."""

from collections.abc import Mapping, Sequence

from pages.report import markdown_table
from studies.shared.rates import compare_flags, rate_in_words
from studies.thresholds.arms import GROUPED, Planted
from studies.thresholds.folds import Duplicates, stratified_equals_kfold

LEVEL = 0.05


def duplicates_table(nearest: Duplicates, ids: Sequence[str], n_train: int) -> str:
    """List the nearest pairs of images."""
    return markdown_table(
        [
            {
                "first": ids[a],
                "second": ids[b],
                "distance (share of the usual)": distance,
                "train and test": a < n_train <= b,
            }
            for a, b, distance in nearest.pairs[:8]
        ]
    )


def stratified_in_words(n_train: int, folds: int) -> str:
    """Say what StratifiedKFold does with one class."""
    same = stratified_equals_kfold(n_train, folds)
    return (
        f"**StratifiedKFold on normals alone gives {'exactly' if same else 'not'} the splits of "
        f"plain KFold** ({n_train} images, {folds} folds, compared image by image)"
        + (": one class cannot be stratified." if same else ".")
    )


def duplicates_in_words(found: Duplicates, n_train: int, nearer: float) -> str:
    """Say how many near-duplicates there are, and what grouped folds can do about them."""
    leaks, groups = found.across(n_train), found.groups[:n_train]
    repeats = n_train - len(set(groups.tolist()))
    text = (
        f"{len(found.pairs)} pairs lie nearer than {nearer:g} and count as near-duplicates, "
        f"{len(leaks)} of them between train and test (leaks); {repeats} training images could be "
        f"left out as repeats."
    )
    if not repeats:
        text += (
            " So folds that keep near-duplicates together are the shuffled folds, image for "
            "image: on this set they are a placebo, and are not run."
        )
    return text


def kinds_in_words(rows: Sequence[Mapping]) -> str:
    """Say whether kinds of folds differ from the first in false alarms, corrected for number."""
    first, *others = rows
    differing = [row["folds"] for row in others if row["p"] * len(others) < LEVEL]
    return (
        f"Folds inside the protocol, false alarms on unseen normals: `{first['folds']}` "
        f"{rate_in_words(first['alarms'], first['normals'])}; "
        + "; ".join(
            f"`{row['folds']}` {rate_in_words(row['alarms'], row['normals'])}, {row['only here']} "
            f"images flagged only here and {row['only there']} only by the first, p {row['p']:.2g}"
            for row in others
        )
        + f". At the level {LEVEL:g} over the {len(others)} comparisons (Bonferroni) "
        + (
            f"{' and '.join(differing)} differ from the first."
            if differing
            else "none differs from the first: one draw of each does not show that the folds "
            "matter."
        )
    )


def planted_in_words(found: Planted, share: float, noise: float) -> str:
    """Say what grouped folds do where duplicates were planted."""
    split, grouped = found.flags()
    thresholds = found.thresholds()
    here, there, p_value = compare_flags(split, grouped)
    verdict = (
        "the folds that keep duplicates together raise fewer false alarms"
        if p_value < LEVEL and here > there
        else "the folds that keep duplicates together raise more false alarms"
        if p_value < LEVEL
        else "so many images do not show a difference in false alarms"
    )
    return (
        f"With copies of {share:.0%} of the normals planted (noise of {noise:g} standard "
        f"deviations), the finder finds {found.found} of {found.planted} planted pairs and "
        f"{found.other} others. Shuffled folds split them: of the held-out scores of images with "
        f"a twin {found.lower / found.twins:.0%} are lower than in grouped folds, the mean "
        f"threshold is {thresholds[0]:.3f} against {thresholds[1]:.3f}, and "
        f"{rate_in_words(int(split.sum()), len(split))} of unseen normals are flagged against "
        f"{rate_in_words(int(grouped.sum()), len(grouped))}. {here} images only with shuffled "
        f"folds, {there} only with grouped ones, p {p_value:.2g}: {verdict}."
    )


def folds_summary(
    rows: Sequence[Mapping], found: Planted, duplicates: Duplicates, n_train: int
) -> dict[str, object]:
    """Give the figures for the metrics."""
    split, grouped = found.flags()
    return {
        "false_alarm_rate": {row["folds"]: row["false alarms"] for row in rows},
        "p_against_the_first": {row["folds"]: row["p"] for row in rows[1:]},
        "grouped_is_placebo": not any(row["folds"] == GROUPED for row in rows),
        "near_duplicates": len(duplicates.pairs),
        "leaks": len(duplicates.across(n_train)),
        "planted": {
            "pairs": found.planted,
            "found": found.found,
            "other_pairs": found.other,
            "false_alarm_rate_split": float(split.mean()),
            "false_alarm_rate_grouped": float(grouped.mean()),
            "p": compare_flags(split, grouped)[2],
        },
    }
