"""Say where two runs' records part first, and what parts on its own behind that."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ad.files import atomic_path
from studies.gap.checks import CHECKS
from studies.gap.differences import (
    DIFFERS,
    EQUAL,
    HARMLESS,
    ROUNDING,
    UNKNOWN,
    Answer,
    Finding,
    changed,
    few,
    permuted,
)
from studies.gap.record import Record


def check_row_order(a: Record, b: Record) -> Answer:
    """Look for rows that were joined by position, and for rows in another order."""
    if a.scores and b.scores and permuted(a.scores, b.scores):
        moved = changed(a.scores, b.scores)
        return DIFFERS, (
            f"the same scores stand under other ids ({len(moved)} of {len(a.scores)}): rows were "
            f"joined by position, not by id"
        )
    wrong = [_contradiction(which, record) for which, record in (("first", a), ("second", b))]
    one, two = a.flags(), b.flags()
    moved = changed(one, two)
    if any(wrong):
        return DIFFERS, (
            f"{len(moved)} flags stand under other ids; {'; '.join(filter(None, wrong))}: rows "
            f"were joined by position, not by id"
        )
    blind = not (a.scores and b.scores and a.threshold and b.threshold)
    if moved and blind and sum(one.values()) == sum(two.values()):
        return DIFFERS, (
            f"{len(moved)} flags differ, as many in each run; without scores and threshold this is "
            f"either another order or other scores"
        )
    orders = [[name for name, _ in record.submission] for record in (a, b)]
    if sorted(orders[0]) == sorted(orders[1]) and orders[0] != orders[1]:
        rows = sum(x != y for x, y in zip(*orders, strict=True))
        follows = [bool(r.sample_order) and o == r.sample_order for r, o in zip((a, b), orders)]  # noqa: B905
        return DIFFERS, (
            f"ids and flags belong together, but {rows} of {len(one)} rows stand in another order "
            f"(in the sample's order: {follows[0]} and {follows[1]}); a grader that joins by "
            f"position would see other answers"
        )
    if (a.sample_order or b.sample_order) and a.sample_order != b.sample_order:
        return HARMLESS, "the sample submissions are ordered otherwise, the submissions are not"
    return EQUAL, "rows are in one order" + ("; flags follow their scores" if moved else "")


def _contradiction(which: str, record: Record) -> str | None:
    if not record.scores or not record.threshold:
        return None
    limit, flags = record.threshold.threshold, record.flags()
    wrong = [i for i, s in record.scores.items() if i in flags and flags[i] != (s > limit)]
    words = f"in the {which} run {len(wrong)} flags contradict their own scores ({few(wrong)})"
    return words if wrong else None


def check_quality(a: Record, b: Record) -> Answer:
    """Compare the figures that the runs report: equal flags must get equal ones."""
    one, two = a.quality, b.quality
    odd = [
        f"{key}: {one.get(key)} and {two.get(key)}"
        for key in sorted(one.keys() | two.keys())
        if one.get(key) != two.get(key)
    ]
    if odd:
        return DIFFERS, few(odd)
    return EQUAL, f"{len(one)} figures are equal"


STAGES: dict[str, tuple[Callable[[Record, Record], Answer], tuple[str, ...]]] = {
    **CHECKS,
    "row order": (check_row_order, ("submission",)),
    "quality": (check_quality, ("quality",)),
}
# What a stage's numbers follow from; a difference in them explains one in the stage.
FOLLOWS: dict[str, tuple[str, ...]] = {
    "parameters": (),
    "data bytes": (),
    "listing order": ("data bytes",),
    "decoding": ("parameters",),
    "weights": ("parameters",),
    "features": ("parameters", "data bytes", "listing order", "decoding", "weights"),
    "coreset": ("parameters", "listing order", "features"),
    "validation": ("parameters", "features", "coreset"),
    "threshold": ("parameters", "validation"),
    "scores": ("parameters", "features", "coreset"),
    "submission": ("scores", "threshold"),
    "row order": ("listing order",),
    "quality": ("submission", "row order", "scores", "parameters"),
}


@dataclass(frozen=True)
class Comparison:
    """What every stage shows, in order.

    Parameters
    ----------
    causes : list of Finding
        Stages that differ, and not because of a stage that differs before them.  The first is where
        the runs part.
    """

    findings: list[Finding]
    causes: list[Finding]
    changed_flags: int | None
    environment: list[str]

    @property
    def first(self) -> Finding | None:
        """Return where the runs part; rounding only if nothing more differs."""
        rounded = [finding for finding in self.findings if finding.state == ROUNDING]
        return next(iter([*self.causes, *rounded]), None)


def compare_records(a: Record, b: Record) -> Comparison:
    """Compare stage by stage, as far as both records go.

    Where rounding comes first and a real difference later, the real one is named: rounding alone
    is what any two processors show.
    """
    findings = []
    for stage, (check, needed) in STAGES.items():
        lacking = [
            f"the {which} record has no {part}"
            for part in needed
            for which, record in (("first", a), ("second", b))
            if getattr(record, part) is None
        ]
        answer = (UNKNOWN, "; ".join(lacking)) if lacking else check(a, b)
        findings.append(Finding(stage, *answer))
    one, two = a.environment or {}, b.environment or {}
    environment = [
        f"{key}: {one.get(key)} and {two.get(key)}"
        for key in sorted(one.keys() | two.keys())
        if one.get(key) != two.get(key)
    ]
    flags = a.flags(), b.flags()
    moved = None if None in flags else len(changed(*flags))
    return Comparison(findings, _causes(findings), moved, environment)


def _causes(findings: list[Finding]) -> list[Finding]:
    state = {finding.stage: finding.state for finding in findings}

    def explained(stage: str) -> bool:
        return any(state[before] == DIFFERS or explained(before) for before in FOLLOWS[stage])

    return [f for f in findings if f.state == DIFFERS and not explained(f.stage)]


def verdict(result: Comparison) -> str:
    """State where the runs part, and what parts on its own behind that."""
    unknown = [f.stage for f in result.findings if f.state == UNKNOWN]
    flags = f" {result.changed_flags} flags differ." if result.changed_flags is not None else ""
    lacking = f" Not compared, because a record lacks it: {', '.join(unknown)}." if unknown else ""
    if result.first is None:
        words = "The runs are identical in everything recorded"
        if unknown:
            words = "The runs are identical in what both records hold"
        slight = [f"{f.stage}: no consequence" for f in result.findings if f.state == HARMLESS]
        return f"{words}{', but for the ' * bool(slight)}{', '.join(slight)}.{lacking}"
    if result.first.state == ROUNDING:
        return (
            f"The runs agree to rounding; it first shows in: {result.first.stage}.{flags}{lacking}"
        )
    stages = [finding.stage for finding in result.findings]
    before = stages.index(result.first.stage)
    earlier = [f.stage for f in result.findings[:before] if f.state == ROUNDING]
    note = f" (after rounding in: {', '.join(earlier)})" if earlier else ""
    others = [cause.stage for cause in result.causes[1:]]
    also = f" Not explained by that: {', '.join(others)}." if others else ""
    return f"The runs part first at: {result.first.stage}{note}.{also}{flags}{lacking}"


def page(result: Comparison, a: Record, b: Record) -> str:
    """Lay out one page of plain text."""
    lines = [verdict(result), ""]
    width = max(map(len, STAGES))
    lines += [f"{f.stage:<{width}}  {f.state:<14}  {f.words}" for f in result.findings]
    one, two = a.quality or {}, b.quality or {}
    figures = [
        f"{key}: {one[key]:.4g} and {two[key]:.4g}"
        for key in ("f1", "image_auroc", "n_flagged")
        if key in one and key in two
    ]
    lines += ["", "Quality as each run reports it: " + ("; ".join(figures) or "unknown")]
    lines += ["", "Environments:"]
    lines += [f"  {line}" for line in result.environment] or ["  equal"]
    return "\n".join(lines) + "\n"


def save_comparison(path: str | Path, result: Comparison, a: Record, b: Record) -> None:
    """Write the figure of a comparison as PNG."""
    import matplotlib.pyplot as plt  # only this function draws

    from studies.gap.comparison_plots import scores_against_scores, stage_states

    fig, (left, right) = plt.subplots(
        1, 2, figsize=(10, 4.5), layout="constrained", width_ratios=(1, 2)
    )
    stage_states(left, result)
    scores_against_scores(right, a, b)
    with atomic_path(path) as partial:
        fig.savefig(partial, format="png", dpi=110, metadata={"Software": None})
    plt.close(fig)
