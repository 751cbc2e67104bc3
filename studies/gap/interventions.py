"""One change in a run at a time: the flags it moves, and whether it could print the four values.

`FACTORS` names every change and the function that carries it out.  A function gets the unchanged
run and returns flags of the test images, or many draws of them.  The unchanged run computes in
whole numbers, as the pipeline does; `numerics` holds float32 beside it.
"""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from uuid import UUID

import numpy as np
import pandas as pd
from PIL import Image as Picture

from ad.backbone import Backbone, load_backbone
from ad.data import of_split
from ad.determinism import set_determinism
from ad.extraction import FeatureExtractor, features_of, make_extractor
from ad.images import InputRule, read_rgb
from ad.params import Params
from ad.protocol import Result, run_protocol, score_held_out, score_queries
from ad.scan import scan
from studies.gap.forensics import Case
from studies.gap.orders import ext4_orders, f1_of_draws, listings, written

ROOT = Path(__file__).resolve().parents[2]
DRAWS = 500  # row orders of each kind
SEEDS = 3  # runs with every seed changed
BATCH = 32  # images that a network or a scaling sees together
# The oldest processor that the libraries can be told to take this one for, and one thread.
OLD_MACHINE = {
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "OPENBLAS_CORETYPE": "Nehalem",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    "OMP_NUM_THREADS": "1",
}


@dataclass(frozen=True)
class Images:
    """Image files and, where they are known, the test images' labels (1: anomalous)."""

    train: Sequence[Path]
    test: Sequence[Path]
    labels: np.ndarray | None = None

    @classmethod
    def of_folder(cls, folder: Path) -> "Images":
        """Take the images of a data set's folder, in one of the layouts that `ad` reads."""
        records = scan(folder)
        train, test = of_split(records, "train"), of_split(records, "test")
        labels = [record.label for record in test]
        known = None if None in labels else np.array(labels)
        return cls(*([folder / r.path for r in own] for own in (train, test)), known)


@dataclass(frozen=True)
class Control:
    """The unchanged run, and what the factors re-use of it."""

    images: Images
    params: Params

    @property
    def n_train(self) -> int:
        """Count the training images."""
        return len(self.images.train)

    @property
    def paths(self) -> list[Path]:
        """List the training images and behind them the test images."""
        return [*self.images.train, *self.images.test]

    def network(self, **changes: object) -> Backbone:
        """Load the backbone, with changes to its settings."""
        settings = self.params.backbone.model_copy(update=changes)
        return load_backbone(settings, seed=self.params.seed, root=ROOT)

    def make(self, network: Backbone, arithmetic: str = "float32") -> FeatureExtractor:
        """Make an extractor of a network."""
        own, normals = self.params, self.images.train
        return make_extractor(network, own.image, own.patch, normals, arithmetic=arithmetic)

    def extract(self, extractor: FeatureExtractor, pictures: Sequence | None = None) -> np.ndarray:
        """Extract features of all images, or of changed pictures of them, training before test."""
        return features_of(extractor, pictures or self.paths, self.params.runtime)

    @cached_property
    def extractor(self) -> FeatureExtractor:
        """Return the unchanged run's extractor."""
        return self.make(self.network(), self.params.backbone.arithmetic)

    @cached_property
    def features(self) -> np.ndarray:
        """Return the unchanged run's features, shape (n_images, h, w, dim)."""
        return self.extract(self.extractor)

    @cached_property
    def float32(self) -> np.ndarray:
        """Return the features as the library computes them."""
        return self.extract(self.make(self.network()))

    def unit_of(self, features: np.ndarray) -> float:
        """Return what a difference of 1 between features stands for."""
        return 1.0 if features.dtype == np.float32 else self.extractor.unit

    def run(self, features: np.ndarray | None = None, **changes: object) -> Result:
        """Run the protocol on features (by default the unchanged ones), with other settings."""
        features, own = self.features if features is None else features, self.params
        how = {"coreset": own.coreset, "score": own.score, "cv": own.cv, "seed": own.seed}
        how["unit"] = self.unit_of(features)
        return run_protocol(features[: self.n_train], features[self.n_train :], **how | changes)

    @cached_property
    def result(self) -> Result:
        """Return the unchanged run's result."""
        return self.run()

    @cached_property
    def float32_result(self) -> Result:
        """Return the result in float32."""
        return self.run(self.float32)

    def rescored(self, base: Result, features: np.ndarray, **changes: object) -> Result:
        """Score the images of a run once more against its own banks, by other settings."""
        how = base.banks, self.params.score.model_copy(update=changes)
        normals, queries = features[: self.n_train], features[self.n_train :]
        unit = self.unit_of(features)
        held_out = score_held_out(normals, base.folds, *how, unit=unit)
        found = score_queries(queries, *how, unit=unit)
        scores = [[own.images for own in each] for each in (held_out, found)]
        return replace(base, held_out=scores[0], fold_scores=np.stack(scores[1]))

    @property
    def flags(self) -> np.ndarray:
        """Return the unchanged run's flags, shape (n_test,)."""
        return self.result.flags


Factor = Callable[[Control], np.ndarray]


# Order: answers beside other ids, training images listed otherwise


def _rows(control: Control, listing: str, flags: np.ndarray | None = None) -> np.ndarray:
    """Write answers, by default the unchanged ones, in the order of a listing beside sorted ids."""
    flags, seed = control.flags if flags is None else flags, control.params.seed
    orders = listings(len(flags), draws=DRAWS, seed=seed)[listing]
    return written(flags, orders, draws=DRAWS, seed=seed)


def _no_id_found(control: Control) -> np.ndarray:
    r"""Take ``test\TEST_000`` for an id, as a split of Windows paths at '/' does: all become 0."""
    return np.zeros_like(control.flags)


def _listed_training(control: Control) -> np.ndarray:
    """Take the training images in an ext4 folder's order."""
    names = [path.name for path in control.images.train]
    order = ext4_orders(names, [UUID(int=control.params.seed + 1)])[0]
    rows = np.r_[order, control.n_train : len(control.features)]
    return control.run(control.features[rows]).flags


# Numbers


def _other_seeds(control: Control) -> np.ndarray:
    """Change every seed: of the folds, of each bank's first pick, of the projection."""
    seeds = range(control.params.seed + 1, control.params.seed + 1 + SEEDS)
    return np.stack([control.run(seed=seed).flags for seed in seeds])


def _folds_not_shuffled(control: Control) -> np.ndarray:
    return control.run(cv=control.params.cv.model_copy(update={"shuffle": False})).flags


# Decoding: other ways from a file to the network's input


def _aliased(picture: Picture.Image, rule: InputRule) -> np.ndarray:
    """Resize bilinearly without antialiasing, as OpenCV and tensors do by default."""
    height, width = rule.shape
    how = Picture.Transform.EXTENT, rule.box(*picture.size), rule.resample
    return np.asarray(picture.transform((width, height), *how))


def _bicubic(picture: Picture.Image, rule: InputRule) -> np.ndarray:
    return replace(rule, resample=Picture.Resampling.BICUBIC).pixels(picture)


def _cropped(picture: Picture.Image, rule: InputRule) -> np.ndarray:
    """Resize the shorter side to 8/7 of the input (256 for 224) and keep the centre."""
    return replace(rule, resize=round(min(rule.shape) * 8 / 7)).pixels(picture)


def _jpeg(picture: Picture.Image, rule: InputRule) -> np.ndarray:
    stream = io.BytesIO()
    picture.save(stream, format="JPEG", quality=75)
    return rule.pixels(Picture.open(stream).convert("RGB"))


def _decoded(control: Control, how: Callable, *, test_only: bool = False) -> np.ndarray:
    """Decode all images in another way, or the test images only; the scales stay."""
    paths = control.images.test if test_only else control.paths
    pictures = [how(read_rgb(path), control.extractor.rule) for path in paths]
    features = control.extract(control.extractor, pictures)
    if test_only:
        features = np.concatenate([control.features[: control.n_train], features])
    return control.run(features).flags


# Network: in float32, as whole numbers take longer to make than to use


def _of_network(control: Control, network: Backbone) -> np.ndarray:
    return control.run(control.extract(control.make(network))).flags


def _last_layer_random(control: Control) -> np.ndarray:
    """Leave the last layer that is read at its random start, as a lenient loader would."""
    loaded, network = control.network(), control.network(weights="random")
    last = loaded.layers[-1].name + "."
    state = loaded.model.state_dict()
    kept = {key: value for key, value in state.items() if not key.startswith(last)}
    network.model.load_state_dict(kept, strict=False)
    return _of_network(control, network)


def _training_mode(control: Control) -> np.ndarray:
    """Forget ``eval()``: each batch of `BATCH` mixed images normalises itself."""
    made = control.make(control.network())
    made.backbone.model.train()
    mixed = np.random.default_rng(control.params.seed).permutation
    rows = np.r_[mixed(control.n_train), control.n_train + mixed(len(control.images.test))]
    features = np.empty_like(control.float32)
    for start in range(0, len(rows), BATCH):
        some = rows[start : start + BATCH]
        pixels = np.stack([made.rule.read(control.paths[row]) for row in some])
        features[some] = made(pixels)
    return control.run(features).flags


# Threshold


def _above_quantile(control: Control) -> np.ndarray:
    return control.result.scores > control.result.threshold_of("quantile:0.95")


def _best_f1_on_normals(control: Control) -> np.ndarray:
    """Choose the threshold of best F1 on normal images: every F1 is 0, so the least score is taken.

    As anomalib's F1AdaptiveThreshold did (its issues 2433 and 3357).
    """
    return control.result.scores >= np.mean([own.min() for own in control.result.held_out])


def _half_of_the_range(control: Control, *, batch: int | None = None) -> np.ndarray:
    """Scale test scores to 0..1 by their own range, all or batch by batch, and cut at 0.5."""
    scores = control.result.scores
    mixed = np.random.default_rng(control.params.seed).permutation(len(scores))
    flags, batch = np.empty(len(scores), dtype=bool), batch or len(scores)
    for start in range(0, len(scores), batch):
        rows = mixed[start : start + batch]
        own = scores[rows]
        flags[rows] = own - own.min() > 0.5 * (own.max() - own.min())
    return flags


FACTORS: dict[str, dict[str, Factor]] = {
    "order": {
        "rows by position, Windows's listing": partial(_rows, listing="Windows (NTFS)"),
        "rows by position, ext4's listing": partial(_rows, listing="Linux (ext4)"),
        "ext4's listing and the 95 % quantile": lambda c: _rows(
            c, "Linux (ext4)", _above_quantile(c)
        ),
        "rows by position, loader shuffled": partial(_rows, listing="shuffled by the loader"),
        "rows by position, numbers not padded": partial(
            _rows, listing="sorted as text, numbers not padded"
        ),
        "rows by position, one file twice": partial(_rows, listing="one file stands twice"),
        "wrong ids: shifted by one": partial(_rows, listing="ids shifted by one row"),
        "wrong ids: none found, all 0": _no_id_found,
        "training images in ext4's listing": _listed_training,
    },
    "numbers": {
        "float32 for whole numbers": lambda c: c.float32_result.flags,
        "every seed changed": _other_seeds,
        "folds not shuffled": _folds_not_shuffled,
    },
    "decoding": {
        "JPEG in between, test images only": partial(_decoded, how=_jpeg, test_only=True),
        "resized without antialiasing": partial(_decoded, how=_aliased),
        "resized without antialiasing, test images only": partial(
            _decoded, how=_aliased, test_only=True
        ),
        "bicubic for bilinear": partial(_decoded, how=_bicubic),
        "centre crop": partial(_decoded, how=_cropped),
        "centre crop, test images only": partial(_decoded, how=_cropped, test_only=True),
    },
    "network": {
        "random weights": lambda c: _of_network(c, c.network(weights="random")),
        "last layer's weights random": _last_layer_random,
        "eval() forgotten": _training_mode,
        "deeper layers": lambda c: _of_network(c, c.network(layers=[3, 4])),
        "nearest neighbour alone": lambda c: (
            c.rescored(c.result, c.features, num_neighbors=1).flags
        ),
    },
    "threshold": {
        "threshold at the 95 % quantile": _above_quantile,
        "folds by their mean": lambda c: c.result.scores_of("mean") > c.result.threshold,
        "first fold alone": lambda c: c.result.fold_scores[0] > c.result.thresholds[0],
        "best F1 on normals alone": _best_f1_on_normals,
        "squared scores, plain threshold": lambda c: c.result.scores > np.sqrt(c.result.threshold),
        "half of the test scores' range": _half_of_the_range,
        "half of each batch's range": partial(_half_of_the_range, batch=BATCH),
        "labels flipped": lambda c: ~c.flags,
    },
}


def carry_out(control: Control, factors: Mapping = FACTORS) -> pd.DataFrame:
    """Carry out every factor and count what it flags.

    Returns
    -------
    DataFrame
        Indexed by ``group`` and ``factor``, the unchanged run first.  ``flags``: images flagged;
        ``moved``: images whose flag is another than in the unchanged run; both are means over
        draws.  With labels also ``hits`` and ``false_alarms`` (counts), ``J`` (sensitivity minus
        false-alarm rate) and ``f1``.
    """
    labels, rows = control.images.labels, {}
    every = {"": {"unchanged": lambda c: c.flags}, **factors}
    for group, own in every.items():
        for name, factor in own.items():
            flags = np.atleast_2d(factor(control))  # (draws, n_test)
            moved = (flags != control.flags).sum(axis=1).mean()
            row = {"flags": flags.sum(axis=1).mean(), "moved": moved}
            if labels is not None:
                anomalous, count = labels == 1, flags.mean(axis=0)
                row["hits"], row["false_alarms"] = count[anomalous].sum(), count[~anomalous].sum()
                row["J"] = count[anomalous].mean() - count[~anomalous].mean()
                row["f1"] = f1_of_draws(labels, flags).mean()
            rows[group, name] = row
    return pd.DataFrame(rows).T.rename_axis(["group", "factor"])


def weigh(table: pd.DataFrame, labels: np.ndarray | None, case: Case) -> pd.DataFrame:
    """Add each factor's exact probability of all printed values against flags at random.

    The rates counted here are put into the reported test set, as uncertain as so few images leave
    them.

    Returns
    -------
    DataFrame
        With ``log10_rates``: log10 of the ratio under the factor's own rates;
        ``log10_information``: the same when every number of flags is as likely, so that only what
        the flags tell of the images counts.
    """
    if labels is None:
        raise ValueError("factors are weighed by their rates: every test image needs a label")
    anomalous, normal = int((labels == 1).sum()), int((labels != 1).sum())
    counts = table[["hits", "false_alarms"]].to_numpy()
    own = [case.informed(0.0)]  # flags at random, and behind it the factors
    own += [case.counted(hits, anomalous, alarms, normal) for hits, alarms in counts]
    rates = case.likelihood(np.stack(own))
    even = case.likelihood(np.stack([case.evened(each) for each in own]))
    ratios = {"log10_rates": rates[1:] / rates[0], "log10_information": even[1:] / even[0]}
    return table.assign(**{name: np.log10(ratio) for name, ratio in ratios.items()})


# Numerics: the same changes in float32 and in whole numbers


def numerics(control: Control) -> pd.DataFrame:
    """Change machine, libraries and precision, in float32 and in whole numbers.

    Returns
    -------
    DataFrame
        Indexed by change; for each arithmetic the test ``scores`` that have other bits and the
        ``flags`` that move, against the unchanged run in the same arithmetic.
    """
    base, rows = control.float32_result, {}
    half = control.run(control.float32.astype(np.float16).astype(np.float32))
    rows["features in half precision"] = _moved("float32", base, half.scores, half.flags)
    for arithmetic, base, features in (
        ("float32", control.float32_result, control.float32),
        ("integer", control.result, control.features),
    ):
        machine = {key: np.array(own) for key, own in _elsewhere(control, arithmetic).items()}
        searched = control.rescored(base, features, index="faiss_flat")
        for change, scores, flags in (
            ("one thread, instructions of 2008", machine["scores"], machine["flags"]),
            ("neighbours by another library (FAISS)", searched.scores, searched.flags),
        ):
            rows.setdefault(change, {}).update(_moved(arithmetic, base, scores, flags))
    return pd.DataFrame(rows).T.rename_axis("change")


def _moved(arithmetic: str, base: Result, scores: np.ndarray, flags: np.ndarray) -> dict[str, int]:
    return {
        f"{arithmetic} scores": int((scores != base.scores).sum()),
        f"{arithmetic} flags": int((flags != base.flags).sum()),
    }


def _elsewhere(control: Control, arithmetic: str) -> dict[str, list]:
    """Run images to flags in a process that takes this processor for an old one."""
    params = control.params.model_dump()
    params["backbone"]["arithmetic"] = arithmetic
    train, test = ([str(path.resolve()) for path in own]
                   for own in (control.images.train, control.images.test))  # fmt: skip
    finished = subprocess.run(
        [sys.executable, "-m", "studies.gap.interventions"],
        input=json.dumps({"params": params, "train": train, "test": test}),
        env={**os.environ, **OLD_MACHINE, "TQDM_DISABLE": "1"},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(finished.stdout.splitlines()[-1])


def main() -> None:
    """Run a job of `_elsewhere`: JSON in, scores and flags out."""
    job = json.load(sys.stdin)
    params = Params(**job["params"])
    set_determinism(params.seed, threads=1)
    images = Images(*([Path(path) for path in job[key]] for key in ("train", "test")))
    result = Control(images, params).result
    print(json.dumps({"scores": result.scores.tolist(), "flags": result.flags.tolist()}))


if __name__ == "__main__":
    main()
