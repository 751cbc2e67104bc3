"""The run that factors start from, and the same run in a process of its own."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from timm.models import get_pretrained_cfg

from ad.backbone import Backbone, load_backbone
from ad.dataset import ImageRecord, of_split, read_manifest
from ad.determinism import set_determinism, sha256_file
from ad.extraction import FeatureExtractor, features_of, make_extractor
from ad.files import read_json, write_json
from ad.images import InputRule
from ad.params import BackboneSettings, Coreset, Image, Patch, Runtime, Score
from ad.protocol import CrossValidated, Protocol, cross_validate, fold_indices
from pretrained.sources import package_weights
from validation.sections import Section

LIBRARIES = ("torch", "timm", "pillow", "scikit-learn", "numpy")
TAGGED = ("resnet18", "resnet50", "wide_resnet101_2")  # names whose default weights are looked up

# Settings that came after committed records; at these values they change nothing.
LATER = {"image": {"tiles": 1, "region": None}, "coreset": {"size": None}}


class Case(Section):
    """The run that factors change; plain values, so that another process can be given it.

    ``manifest`` and ``data`` are paths; a weights file's path is relative to the working directory.
    """

    manifest: str
    data: str
    backbone: BackboneSettings
    image: Image
    patch: Patch
    coreset: Coreset
    score: Score
    runtime: Runtime
    folds: int
    seed: int

    def records(self) -> list[ImageRecord]:
        """Read the manifest, train before test."""
        return read_manifest(self.manifest)

    def n_train(self) -> int:
        """Count the training images."""
        return len(of_split(self.records(), "train"))

    def paths(self) -> list[Path]:
        """List the image files in manifest order."""
        return [Path(self.data) / record.path for record in self.records()]

    def network(self, **changes: str) -> Backbone:
        """Load the backbone, with changes to its settings."""
        return load_backbone(self.backbone.model_copy(update=changes), seed=self.seed)

    def rule(self, network: Backbone) -> InputRule:
        """Say how a picture becomes the network's input."""
        return network.input_rule(self.image)

    def features(self) -> np.ndarray:
        """Extract features as the pipeline does, shape (n_images, h, w, dim)."""
        return features_of(self.extractor(), self.paths(), self.runtime)

    def extractor(self) -> FeatureExtractor:
        """Make what brings the images to features, in the case's arithmetic."""
        how, normals = self.backbone.arithmetic, self.paths()[: self.n_train()]
        network = self.network()
        return make_extractor(network, self.image, self.patch, normals, arithmetic=how)

    def in_arithmetic(self, arithmetic: str) -> "Case":
        """Return the case in another arithmetic."""
        backbone = self.backbone.model_copy(update={"arithmetic": arithmetic})
        return self.model_copy(update={"backbone": backbone})

    def protocol(self) -> Protocol:
        """Say how banks are drawn and images scored."""
        return Protocol(self.coreset, self.score, self.seed)

    def digest(self) -> str:
        """Hash what the numbers depend on: images, weights, settings; not paths or threads."""
        settings = self.model_dump(exclude={"manifest", "data", "runtime"})
        for section, added in LATER.items():
            for key, usual in added.items():
                if settings[section][key] == usual:
                    del settings[section][key]
        name, weights = self.backbone.name, self.backbone.weights
        if weights == "package":
            weights = sha256_file(package_weights(name))
        elif weights not in ("hub", "random"):
            weights = sha256_file(weights)
        settings["backbone"]["weights"] = weights
        settings["images"] = [[record.id, record.sha256] for record in self.records()]
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def case_of(names: Mapping[str, object]) -> Case:
    """Gather the case from a notebook's parameters; paths are from the repository's root."""
    return Case(
        manifest="artifacts/manifest.csv",
        data=str(names["data_path"]),
        # As the team computed; `in_arithmetic` gives the pipeline's.
        backbone=BackboneSettings.of(names, "backbone_").model_copy(
            update={"arithmetic": "float32"}
        ),
        # Its float32 arms send a picture through in one pass, so the control does too.
        image=Image.of(names, "image_").model_copy(update={"tiles": 1}),
        patch=Patch.of(names, "patch_"),
        coreset=Coreset(
            ratio=names["gap_coreset_ratio"], projection_dim=names["coreset_projection_dim"]
        ),
        score=Score.of(names, "score_"),
        runtime=Runtime.of(names, "runtime_"),
        folds=names["cv_folds"],
        seed=names["seed"],
    )


def default_tag(backbone: str) -> str | None:
    """Return the pretrained tag that this timm gives a name without one; ``None`` if none."""
    config = get_pretrained_cfg(backbone)
    return config.tag if config is not None and config.tag else None


def run_elsewhere(
    case: Case, environment: Mapping[str, str], *, python: str | Path = sys.executable
) -> dict:
    """Run a case from images to flags in a process of its own.

    Parameters
    ----------
    environment : mapping
        Environment variables that differ.
    python : path
        The interpreter; another one may have other libraries.

    Returns
    -------
    dict
        What `main` writes: ``held_out`` and ``fold_scores`` (see `CrossValidated`),
        ``feature_sums`` (each image's sum of features in float64: it tells whether numbers
        moved), ``versions`` and ``default_tags`` of the libraries.

    Raises
    ------
    RuntimeError
        When the process fails; the message is its last line.
    """
    with tempfile.TemporaryDirectory() as folder:
        job, result = Path(folder) / "case.json", Path(folder) / "outcome.json"
        write_json(job, case.model_dump())
        finished = subprocess.run(
            [str(python), "-m", "studies.gap.case", str(job), str(result)],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        if finished.returncode:
            last = (finished.stderr.strip().splitlines() or ["no message"])[-1]
            raise RuntimeError(f"the run with {dict(environment)} failed: {last}")
        return read_json(result)


def cross_validated(found: Mapping) -> CrossValidated:
    """Make a result of what `run_elsewhere` returns."""
    held_out = [np.array(own) for own in found["held_out"]]
    return CrossValidated(held_out, np.array(found["fold_scores"]))


def main(arguments: Sequence[str]) -> None:
    """Run one case (``CASE.json OUTCOME.json``); `run_elsewhere` calls it."""
    case = Case.model_validate(read_json(arguments[0]))
    set_determinism(case.seed, case.runtime.threads)
    features, n_train = case.features(), case.n_train()
    folds = fold_indices(n_train, case.folds, shuffle=False, seed=case.seed)
    found = cross_validate(features[:n_train], [features[n_train:]], folds, case.protocol())
    write_json(
        arguments[1],
        {
            "held_out": [own.tolist() for own in found.held_out],
            "fold_scores": found.fold_scores.tolist(),
            "feature_sums": features.sum(axis=(1, 2, 3), dtype=np.float64).tolist(),
            "versions": {name: version(name) for name in LIBRARIES},
            "default_tags": {name: default_tag(name) for name in TAGGED},
        },
    )


if __name__ == "__main__":
    main(sys.argv[1:])
