"""A tiny case for the interventions."""

from pathlib import Path

from ad.dataset import write_manifest
from ad.params import BackboneSettings, Coreset, Image, Patch, Runtime, Score
from studies.gap.case import Case
from tools.scan import scan


def make_case(root: Path, data: Path) -> Case:
    """Write the data's manifest and describe a run of random weights on it."""
    write_manifest(root / "manifest.csv", scan(data))
    return Case(
        manifest=str(root / "manifest.csv"),
        data=str(data),
        backbone=BackboneSettings(
            name="resnet10t",
            weights="random",
            layers=["layer1", "layer2"],
            arithmetic="float32",
        ),
        image=Image(size=32),
        patch=Patch(size=3),
        coreset=Coreset(ratio=0.2, projection_dim=16),
        score=Score(num_neighbors=3),
        runtime=Runtime(threads=1, memory_gb=4.0),
        folds=2,
        seed=0,
    )
