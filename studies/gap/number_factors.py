"""Numerical factors: seeds, the search, precision, batches, threads, instruction sets, versions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from studies.gap.case import Case, cross_validated, run_elsewhere
from studies.gap.interventions import (
    ARGUED,
    NOT_RUN,
    NUMERICAL,
    Change,
    Control,
    Outcome,
    Row,
    decide,
    detect,
    run_control,
)
from studies.gap.loaders import run_network

MACHINES: dict[str, dict[str, str]] = {
    "capped at AVX2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    },
    "capped at SSE4": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "OPENBLAS_CORETYPE": "Nehalem",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    },
}

WHOLE, SAME_BITS = "whole numbers", "every score has the same bits"


def number_factors(control: Control, *, seeds: int, records: Sequence[Mapping]) -> Iterator[Row]:
    """Change what should not matter.

    Parameters
    ----------
    seeds : int
        Runs with all seeds changed.
    records : sequence of mapping
        Runs with other libraries (`studies.gap.other_versions`).
    """
    yield from seed_factors(control, repeats=seeds)
    search = detect(control.features, control.n_train, control.case, Change(index="faiss_flat"))
    yield control.row("neighbours by FAISS", search)
    yield from precision_factors(control)
    found = run_network(control.case.network(), control.case, batch_size=32)
    yield control.changed("batches of 32 images", found)
    yield from machine_factors(control)
    yield from version_factors(control, records)
    yield from whole_number_factors(control, records)
    yield from ARGUMENTS


def seed_factors(control: Control, *, repeats: int) -> Iterator[Row]:
    """Change each seed alone, then all of them ``repeats`` times: the median and widest run."""
    case, other = control.case, control.case.seed + 1
    changes = {
        "seed of the coreset's start": Change(start_seed=other),
        "folds shuffled": Change(fold_seed=other),
    }
    if case.coreset.projection_dim is not None:
        changes["seed of the projection"] = Change(projection_seed=other)
    changes |= {f"run {n}": Change(*[case.seed + n] * 3) for n in range(1, repeats + 1)}
    rows = [
        control.row(name, detect(control.features, control.n_train, case, change))
        for name, change in changes.items()
    ]
    yield from rows[:-repeats]
    rows = rows[-repeats:]
    changed = [row.flags_changed for row in rows]
    note = f"flags changed {min(changed)} to {max(changed)}"
    if control.labels is not None:
        values = [row.f1 for row in rows]
        note += f"; F1 {min(values):.3f} to {max(values):.3f}, sd {np.std(values):.3f}"
    ordered = sorted(rows, key=lambda row: row.flags_changed)
    median = ordered[repeats // 2]
    yield replace(median, factor=f"all seeds, median of {repeats}", note=note)
    yield replace(ordered[-1], factor=f"all seeds, widest of {repeats}")


def round_mantissa(values: np.ndarray, bits: int) -> np.ndarray:
    """Round float32 to a mantissa of so many bits, halves to even (10: TF32, 7: bfloat16)."""
    drop = 23 - bits
    words = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    half = np.uint32((1 << (drop - 1)) - 1) + ((words >> np.uint32(drop)) & np.uint32(1))
    kept = (words + half) & ~np.uint32((1 << drop) - 1)
    return kept.view(np.float32)


def precision_factors(control: Control) -> Iterator[Row]:
    """Keep features in half precision; round weights and features; run the network in bfloat16."""
    case, features = control.case, control.features
    half = features.astype(np.float16).astype(np.float32)
    yield control.changed("features in float16", half)
    yield control.changed("features in bfloat16", round_mantissa(features, 7))
    network = case.network()
    with torch.no_grad():
        for tensor in (*network.model.parameters(), *network.model.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.from_numpy(round_mantissa(tensor.numpy(), 10)))
    rounded = round_mantissa(run_network(network, case), 10)
    yield control.changed("weights and features as TF32", rounded)
    brain = run_network(case.network(), case, autocast=torch.bfloat16)
    yield control.changed("network in bfloat16 (autocast)", brain)


def features_note(control: Control, sums: Sequence[float]) -> str:
    """Say how far the sums of features are from the control's."""
    own = control.features.sum(axis=(1, 2, 3), dtype=np.float64)
    if (own == sums).all():
        return "features' sums are the control's"
    return f"features' sums differ by up to {np.abs(np.array(sums) / own - 1).max():.0e} relative"


def scores_note(control: Control, outcome: Outcome) -> str:
    """Say how many test scores have other bits than the control's."""
    moved = int((outcome.scores != control.outcome.scores).sum())
    return f"{moved} of {len(outcome.scores)} scores have other bits" if moved else SAME_BITS


def whole_number_factors(control: Control, records: Sequence[Mapping]) -> Iterator[Row]:
    """Compute in whole numbers, as the pipeline does; then change machine and libraries there.

    The latter are held against the run in whole numbers, not against the control.
    """
    whole = run_control(control.case.in_arithmetic("integer"))
    yield control.row(WHOLE, whole.outcome, note="the pipeline's arithmetic")
    for row in (*machine_factors(whole), *version_factors(whole, records)):
        yield replace(row, factor=f"{WHOLE}: {row.factor}")


def machine_factors(control: Control) -> Iterator[Row]:
    """Change the number of threads and the instruction set, images to flags."""
    case = control.case
    threads = 1 if torch.get_num_threads() != 1 else 2
    runtime = case.runtime.model_copy(update={"threads": threads})
    runs: dict[str, tuple[Case, Mapping[str, str]]] = {
        f"{threads} thread{'s' * (threads > 1)}": (case.model_copy(update={"runtime": runtime}), {})
    }
    runs |= {name: (case, environment) for name, environment in MACHINES.items()}
    for name, (changed, environment) in runs.items():
        found = run_elsewhere(changed, environment)
        outcome = decide(cross_validated(found))
        note = f"{features_note(control, found['feature_sums'])}; {scores_note(control, outcome)}"
        yield control.row(name, outcome, note=note)


def version_factors(control: Control, records: Sequence[Mapping]) -> Iterator[Row]:
    """Take runs of the same case with other libraries from records (`other_versions`)."""
    digest = control.case.digest()
    same = [record for record in records if record["case"] == digest]
    if not same:
        why = "no record of this case; python -m studies.gap.other_versions makes one"
        yield Row("older libraries", NUMERICAL, NOT_RUN, why)
    for record in same:
        versions = record["versions"]
        note = features_note(control, record["feature_sums"])
        note += ": " + ", ".join(f"{name} {version}" for name, version in versions.items())
        outcome = decide(cross_validated(record))
        note += f"; {scores_note(control, outcome)}"
        yield control.row(f"older libraries, torch {versions['torch']}", outcome, note=note)


ARGUMENTS = (
    Row(
        "TF32 on the team's GPU",
        NUMERICAL,
        ARGUED,
        "a T4 (Turing) has none: it came with Ampere. Its rounding is emulated above",
    ),
    Row(
        "cuDNN's choice of algorithm",
        NUMERICAL,
        ARGUED,
        "another order of sums in float32, with errors far below those of half precision, which is "
        "run above",
    ),
)
