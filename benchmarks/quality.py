"""What whole numbers cost: image AUROC beside the float32 path, seed by seed.

Usage: python -m benchmarks.quality           some minutes on two cores
       python -m benchmarks.quality --table   the page's table from the results alone

On the default cells with the default network, for five seeds of the folds and first picks.  The
labels are for this comparison only: no scale is chosen by them.
"""

import sys
from pathlib import Path

import pandas as pd

from ad.backbone import load_backbone
from ad.data import of_split
from ad.determinism import set_determinism
from ad.evaluation import image_auroc
from ad.extraction import features_of, make_extractor
from ad.params import Params
from ad.protocol import run_protocol
from ad.scan import scan
from ad.tables import write_table
from benchmarks import as_markdown, into_page

RESULTS = Path("benchmarks/quality.csv")
SEEDS, ARITHMETICS = range(5), ("integer", "float32")


def measure(params: Params) -> pd.DataFrame:
    """Measure image AUROC, a row an arithmetic and a seed."""
    set_determinism(params.seed)
    root, rows = Path(params.data.path), []
    records = scan(root)
    train, test = of_split(records, "train"), of_split(records, "test")
    normals, queries = ([root / record.path for record in part] for part in (train, test))
    labels = [record.label for record in test]
    for arithmetic in ARITHMETICS:
        backbone, how = load_backbone(params.backbone), {"arithmetic": arithmetic}
        extractor = make_extractor(backbone, params.image, params.patch, normals, **how)
        features = [features_of(extractor, part, params.runtime) for part in (normals, queries)]
        how = {"coreset": params.coreset, "score": params.score, "cv": params.cv}
        for seed in SEEDS:
            found = run_protocol(*features, seed=seed, unit=extractor.unit, **how)
            auroc = image_auroc(labels, found.scores)
            rows.append({"arithmetic": arithmetic, "seed": seed, "image_auroc": auroc})
            print(rows[-1], flush=True)
    return pd.DataFrame(rows)


def shown(table: pd.DataFrame) -> str:
    """Lay out every seed, and the mean and standard deviation over seeds."""
    wide = table.pivot(index="seed", columns="arithmetic", values="image_auroc")
    wide = wide[list(ARITHMETICS)].assign(difference=wide["integer"] - wide["float32"])
    both = {"mean": wide.mean(), "standard deviation": wide.std()}
    wide = pd.concat([wide, pd.DataFrame(both).T]).rename_axis("seed").reset_index()
    names = {"integer": "whole numbers", "difference": "whole numbers - float32"}
    numbers = {name: wide[name].map("{:.4f}".format) for name in wide.columns[1:]}
    return as_markdown(wide.assign(**numbers).rename(columns=names))


if __name__ == "__main__":
    if sys.argv[1:] != ["--table"]:
        write_table(RESULTS, measure(Params()))
    into_page("quality", shown(pd.read_csv(RESULTS)))
