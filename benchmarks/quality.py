"""What whole numbers cost: image AUROC beside the float32 path, seed by seed.

Usage: python -m benchmarks.quality

Takes about half an hour on two cores; writes benchmarks/quality.json and the README's table. On
the embedded sets, both synthetic, with the default network, and with resnet18 (layers 2 and 3)
where its ImageNet weights are in weights/. The labels are for this comparison only: no scale is
chosen by them.
"""

from pathlib import Path

import numpy as np

from ad.backbone import load_backbone
from ad.data import of_split
from ad.determinism import set_determinism
from ad.extraction import features_of, make_extractor
from ad.files import read_json, write_json
from ad.metrics import image_auroc
from ad.params import BackboneSettings, Params
from ad.progress import progress_bar
from ad.protocol import Protocol, cross_validate, fold_indices
from benchmarks.run import into_readme
from ad.report import markdown_table
from tools.parameters import read_params
from ad.scan import scan

RESULTS = Path("benchmarks/quality.json")
RESNET18 = Path("weights/resnet18.tv_in1k.to_layer3.safetensors")
RATIOS, SEEDS, ARITHMETICS = (0.01, 0.1), range(5), ("integer", "float32")


def networks(default: BackboneSettings) -> list[BackboneSettings]:
    """List the networks whose weights are here."""
    if not RESNET18.exists():
        return [default]
    layers = ["layer2", "layer3"]
    return [default, BackboneSettings(name="resnet18", weights=str(RESNET18), layers=layers)]


def aurocs(params: Params, backbone: BackboneSettings, root: Path) -> dict[float, list[float]]:
    """Measure image AUROC by ratio, one value a seed."""
    records = scan(root)
    train, test = of_split(records, "train"), of_split(records, "test")
    paths = [root / record.path for record in (*train, *test)]
    network = load_backbone(backbone)
    how = {"arithmetic": backbone.arithmetic}
    extractor = make_extractor(network, params.image, params.patch, paths[: len(train)], **how)
    features = features_of(extractor, paths, params.runtime)
    cv, found = params.cv, {}
    for ratio in RATIOS:
        coreset = params.coreset.model_copy(update={"ratio": ratio})
        found[ratio] = []
        for seed in SEEDS:
            folds = fold_indices(len(train), cv.folds, shuffle=cv.shuffle, seed=seed)
            protocol = Protocol(coreset, params.score, seed, unit=extractor.unit)
            result = cross_validate(
                features[: len(train)], [features[len(train) :]], folds, protocol
            )
            labels = [record.label for record in test]
            found[ratio].append(image_auroc(labels, result.scores(cv.aggregate)))
    return found


def measure(params: Params) -> list[dict]:
    """Compare both arithmetics for each network, set and ratio."""
    set_determinism(params.seed, params.runtime.threads)
    cases = [
        (backbone, root)
        for backbone in networks(params.backbone)
        for root in (params.data.path, params.data.locked)
    ]
    rows = []
    with progress_bar(len(cases) * len(ARITHMETICS), "quality", "set") as progress:
        for backbone, root in cases:
            found = {}
            for arithmetic in ARITHMETICS:
                own = backbone.model_copy(update={"arithmetic": arithmetic})
                found[arithmetic] = aurocs(params, own, Path(root))
                progress.update()
            what = {"network": backbone.name, "images": root}
            rows += [
                what | {"ratio": ratio} | {each: found[each][ratio] for each in ARITHMETICS}
                for ratio in RATIOS
            ]
    return rows


def table(rows: list[dict]) -> str:
    """Lay out the mean over seeds, and the difference with its standard deviation."""
    lines = []
    for row in rows:
        whole, real = (np.array(row[each]) for each in ARITHMETICS)
        differences = whole - real
        spread = f"{differences.mean():+.4f} (sd {differences.std(ddof=1):.4f})"
        what = {key: row[key] for key in ("network", "images")} | {"coreset": f"{row['ratio']:.0%}"}
        means = {"whole numbers": f"{whole.mean():.4f}", "float32": f"{real.mean():.4f}"}
        lines.append(what | means | {f"difference, {len(whole)} seeds": spread})
    return markdown_table(lines)


def main() -> None:
    """Measure, then write; the results file is written at the end, whole or not at all."""
    write_json(RESULTS, measure(read_params()))
    into_readme(table(read_json(RESULTS)), "quality")


if __name__ == "__main__":
    main()
