"""What the documents say is so: figures are the committed run's; links and commands exist."""

import importlib.util
import io
import json
import re
import subprocess
import tomllib
from pathlib import Path

import pandas as pd
import pytest
import yaml

import ad
from ad.evaluation import oracle_f1
from ad.params import read_params

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
every_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)


def read(name: str | Path) -> str:
    """Read a text of the repository."""
    return (ROOT / name).read_text(encoding="utf-8")


def committed_text(name: str) -> str:
    """Read a file as it is in git: an experiment of one's own changes the files alone."""
    command = ["git", "show", f":{name}"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, f"{name} is not in git: 'make repro', then 'git add {name}'"
    return found.stdout


def committed(name: str) -> dict[str, float]:
    """Read figures as they are in git."""
    return json.loads(committed_text(name))


def expected() -> list[tuple[str, str]]:
    """List (document, words that it must have), built from the committed run's metrics."""
    run, unseen = (
        {key.removeprefix("locked_"): f"{value:.3f}" for key, value in committed(name).items()}
        for name in ("metrics/evaluate.json", "metrics/locked.json")
    )
    auroc = "image AUROC {image_auroc} ({image_auroc_low} to {image_auroc_high})"
    f1 = "F1 {f1} ({f1_low} to {f1_high})"
    korean = "이미지 AUROC {image_auroc}({image_auroc_low}~{image_auroc_high}), "
    korean += "F1 {f1}({f1_low}~{f1_high})"
    flagged = f"{float(run['n_flagged']):.0f} of 100"
    return [
        ("README.md", f"{auroc}, {f1}, {flagged} flagged".format(**run)),
        ("README.md", f"{auroc}, {f1}".format(**unseen)),
        ("README.ko.md", korean.format(**run)),
        ("README.ko.md", korean.format(**unseen)),
        ("README.ko.md", f"F1은 {2 * 38 * 0.4 / (38 + 40):.2f}쯤"),  # 38 of 100 at random
        ("docs/model-card.md", f"{auroc}, {f1}, {flagged} flagged".format(**run)),
        ("docs/model-card.md", f"{auroc}, {f1}".format(**unseen)),
    ]


def scores_of(name: str) -> pd.DataFrame:
    """Read a table of scores as it is in git."""
    return pd.read_csv(io.StringIO(committed_text(name)), keep_default_na=False)


def conclusions() -> list[tuple[str, str]]:
    """List what is written by hand about the committed run, built from its tables."""
    run, unseen = committed("metrics/evaluate.json"), committed("metrics/locked.json")
    table, locked = scores_of("metrics/scores.csv"), scores_of("metrics/locked.csv")
    flagged = table[table["decision"] == "anomalous"]["kind"].value_counts()
    labels = (table["kind"] == "anomalous").to_numpy()
    best = oracle_f1(labels, table["score"].to_numpy())
    kinds = locked["kind"].where(locked["kind"] != "unknown", locked["defect"])
    means = [
        f"{round(locked['score'][kinds == kind].mean(), -2):,.0f}"
        for kind in ("normal", "unknown_1of3", "unknown_2of3", "anomalous")
    ]
    hits = locked[locked["decision"] == "anomalous"]["kind"].value_counts()
    counts, first = locked["kind"].value_counts(), table["kind"].value_counts()
    missed = first["anomalous"] - flagged["anomalous"]
    auroc = "{image_auroc:.3f} ({image_auroc_low:.3f} to {image_auroc_high:.3f})".format(**run)
    own = {key.removeprefix("locked_"): value for key, value in unseen.items()}
    return [
        ("notebooks/03_threshold.ipynb", f"the threshold is {run['threshold']:,.0f}"),
        (
            "notebooks/04_evaluate.ipynb",
            f"of {labels.sum()} defective cells {flagged['anomalous']} are found, of "
            f"{(~labels).sum()} normal ones {flagged['normal']} are false alarms: F1 is "
            f"{run['f1']:.3f} (95 % interval over images {run['f1_low']:.3f} to "
            f"{run['f1_high']:.3f}), image AUROC {auroc}",
        ),
        (
            "notebooks/04_evaluate.ipynb",
            f"misses {missed} of {first['anomalous']}; the best one in hindsight would give F1 = "
            f"{best:.3f}",
        ),
        ("docs/front.md", f"in hindsight would give F1 = {best:.3f}"),
        (
            "docs/front.md",
            f"finds {flagged['anomalous']} of {labels.sum()} defective cells among {len(table)} "
            f"new ones and raises {flagged['normal']} false alarms: F1 is {run['f1']:.3f}",
        ),
        ("docs/front.md", f"image AUROC {auroc}"),
        (
            "docs/front.md",
            "image AUROC is {image_auroc:.3f} ({image_auroc_low:.3f} to {image_auroc_high:.3f}) "
            "and F1 {f1:.3f} ({f1_low:.3f} to {f1_high:.3f})".format(**own),
        ),
        (
            "studies/locked/06_locked.ipynb",
            "image AUROC is {image_auroc:.3f} (95 % interval over images {image_auroc_low:.3f} to "
            "{image_auroc_high:.3f}) and F1 {f1:.3f} ({f1_low:.3f} to {f1_high:.3f})".format(**own),
        ),
        (
            "studies/locked/06_locked.ipynb",
            f"{hits['normal']} are false alarms, {hits['normal'] / counts['normal']:.1%} "
            f"({flagged['normal'] / first['normal']:.1%} there). The mean score rises with the "
            f"experts' grade: {means[0]} where they saw no defect, {means[1]} at grade 1/3, "
            f"{means[2]} at 2/3, {means[3]}".replace("%", " %"),
        ),
        (
            "studies/locked/06_locked.ipynb",
            f"Image AUROC is {run['image_auroc'] - own['image_auroc']:.3f} lower",
        ),
        (
            "studies/locked/06_locked.ipynb",
            f"as {counts['anomalous'] / (counts['anomalous'] + counts['normal']):.0%} are "
            f"defective here and {labels.mean():.0%} there. Of the defective cells "
            f"{hits['anomalous'] / counts['anomalous']:.0%} are found "
            f"({flagged['anomalous'] / first['anomalous']:.0%} there)".replace("%", " %"),
        ),
    ]


def findings() -> list[tuple[str, str]]:
    """List what README and front page say of the studies, built from the studies' tables."""
    reference = scores_of("metrics/backbones.csv").set_index(["setting", "statistic"])
    rules = scores_of("metrics/thresholds.csv")
    rules = rules.set_index(["set", "new", "folds", "rule", "aggregate"])

    def of(setting: str, statistic: str = "image AUROC") -> str:
        row = reference.loc[(setting, statistic)][["value", "low", "high"]].astype(float)
        return f"{row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})"

    def shares(rule: str, aggregate: str) -> tuple[float, float]:
        row = rules.loc[("default", "known modules", "shuffled", rule, aggregate)]
        return 100 * row["false_alarms"], 100 * row["found"]

    mean, most = shares("quantile:0.95", "mean"), shares("max", "max")
    alarm = "{:.1f} % and finds {:.0f} %".format(*shares("cross_conformal:0.05", "max"))
    unseen = rules.loc[("default", "unseen modules", "shuffled", "quantile:0.95", "mean")]
    promise = 100 * unseen[["false_alarms", "low", "high"]]
    difference = "image AUROC, difference"

    def other(setting: str) -> str:
        return of(setting, difference).replace(" (", ", ").removesuffix(")")

    words = [
        ("README.md", f"`ad-inspect --alarm 0.05` flags {alarm}"),
        ("README.md", f"have image AUROC {of('default (1 %, 224 pixels)')}"),
        ("README.md", f"that it never saw {of('unseen modules')}"),
        ("README.md", f"is not told from it ({other('Gaussian a position')};"),
        ("README.md", f"ResNet-18 changes image AUROC by {of('resnet18', difference)}"),
        ("README.md", f"EfficientNet-Lite2 by {of('tf_efficientnet_lite2', difference)}"),
        ("README.md", "flags {:.1f} % ({:.1f} to {:.1f}).".format(*promise)),
        ("docs/front.md", f"image AUROC is {of('default (1 %, 224 pixels)')}"),
        ("docs/front.md", f"and {of('unseen modules')} on modules that it never saw"),
    ]
    learnt = scores_of("metrics/reconpatch.csv")
    learnt = learnt[(learnt["network"] == "ResNet-18") & (learnt["dimensions"] == 64)]
    learnt = learnt.set_index(["set", "method"])

    def gain(which: str) -> str:
        row = learnt.loc[(which, "PCA")]
        return f"{row['gain']:.3f} ({row['gain_low']:.3f} to {row['gain_high']:.3f})"

    looks = scores_of("metrics/augmentation_looks.csv")
    mirrored = looks[(looks["bank"] == "as they are") & looks["change"].str.startswith("flipped")]
    low, high = mirrored["value"].min(), mirrored["value"].max()
    words.append(("docs/front.md", f"score higher in {low:.2f} to {high:.2f} of pairs"))
    quantile = "{:.1f} % ({:.1f} to {:.1f})".format(*promise)
    words.append(("docs/front.md", f"the quantile flags {quantile}"))
    better = scores_of("metrics/settings_choice.csv").set_index(["cells", "set"])
    better = better.loc[("polycrystalline", "unseen modules")]
    gained = (
        "from {default:.3f} to {chosen:.3f} (gain {gain:.3f}, {gain_low:.3f} to {gain_high:.3f})"
    )
    words += [(name, f"AUROC {gained.format(**better)}") for name in ("README.md", "docs/front.md")]
    engines = scores_of("benchmarks/platforms.csv")
    differing = engines[engines["differing"] > 0]
    assert differing["engine"].str.endswith("as it comes").all()
    words.append(("README.md", f"differs in all {differing['differing'].item()}"))
    low, high = engines["pictures"].min(), engines["pictures"].max()
    words.append(("README.md", f"({low} to {high} pictures each)"))
    for name in ("README.md", "docs/front.md"):
        words += [(name, f"beats PCA by {gain('first')}"), (name, f"by {gain('second')}")]
        maximum = f"the protocol's maximum flags {most[0]:.1f} % and finds {most[1]:.1f} %"
        words += [(name, f"{mean[0]:.1f} % of new normal cells"), (name, maximum)]
        words += [(name, f"{mean[1]:.0f} % of defects")]
    return words


def test_figures_are_those_of_the_committed_run():
    wanted = expected() + conclusions() + findings()
    wrong = [(name, words) for name, words in wanted if words not in " ".join(read(name).split())]
    assert not wrong, "\n".join(f"{name} must say: {words}" for name, words in wrong)


def slugs(text: str) -> set[str]:
    """Return the anchors of a document's headings, as code hosts make them."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@every_document
def test_links_lead_somewhere(path: Path):
    base = ROOT / "reports" if path.name == "front.md" else path.parent  # it becomes a page there
    missing = []
    for name, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", read(path)):
        if re.match(r"[a-z]+:", name):
            continue
        target = (base / name).resolve() if name else path
        there = target.exists() and (not anchor or anchor in slugs(read(target)))
        missing += [] if there else [f"{name}#{anchor}"]
    assert not missing


@every_document
def test_commands_exist(path: Path):
    text, makefile = read(path), read("Makefile")
    code = "\n".join(re.findall(r"```\n(.*?)```", text, re.DOTALL) + re.findall(r"`([^`]+)`", text))
    studies = {each.parent.name for each in sorted((ROOT / "studies").glob("*/dvc.yaml"))}
    for target in re.findall(r"(?<![\w.])make ([a-z]+)\b", code):
        assert target in studies or re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for module in re.findall(r"python -m ([\w.]+)", code):
        assert importlib.util.find_spec(module), module
    for key, value in re.findall(r"-S '?([a-z_.]+)=([^'\s]+)", code):
        section, _, name = key.partition(".")
        for each in [value] if value.startswith("[") else value.split(","):  # of a grid
            read_params({section: {name: yaml.safe_load(each)}})


def test_one_version_everywhere():
    project = tomllib.loads(read("pyproject.toml"))["project"]
    citation, changes = yaml.safe_load(read("CITATION.cff")), read("CHANGELOG.md")
    newest = re.search(r"^## (\S+)", changes, re.MULTILINE)[1]
    assert {project["version"], ad.__version__, str(citation["version"]), newest} == {newest}
    hooks = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    (ruff,) = (each["rev"] for each in hooks if "ruff" in each["repo"])
    assert f"ruff=={ruff.removeprefix('v')}" in project["optional-dependencies"]["test"]
