"""Words of statistics and of this field, each in a line, for readers who do not know them."""

import re

GLOSSARY = {
    "AUROC": "How well scores rank: the chance that an anomalous image scores above a normal one. "
    "1 is perfect, 0.5 is chance.",
    "AUPRO": "How well maps find defects: the share of each defect that is marked, averaged over "
    "defects and over false-alarm rates up to 30 %.",
    "F1": "One number for a decision: 2 x right alarms over (alarms + anomalous images). 1 is "
    "perfect.",
    "threshold": "The score above which an image is flagged.",
    "false alarm": "A normal image that is flagged.",
    "patch": "A small square of the image, described by the network's numbers at its place.",
    "bank": "The normal patches that are kept (memory bank); a new patch is compared with them.",
    "seed": "The number that random choices start from; the same seed gives the same choices.",
    "normal": "Without a defect.",
    "anomalous": "With a defect.",
    "WRN101": "A wide ResNet of 101 layers, one of the team's networks (`wide_resnet101_2`).",
    "ResNet-50": "A network of 50 layers, one of the team's.",
    "locked": "Kept aside: no setting was chosen by looking at it.",
    "pooling": "Averaging neighbouring numbers to have fewer.",
    "ROC": "Right alarms over false alarms, at every threshold.",
    "coreset": "A small part of many points that still lies near all of them.",
    "k-center": "Choosing points one by one, each the farthest from all chosen so far.",
    "fold": "One of the parts that the normal images are split into; each is left out once, so "
    "that it can be scored as new.",
    "held-out": "Not used for the bank that scores it.",
    "backbone": "The network, trained on everyday photographs, that turns a picture into numbers.",
    "bootstrap": "Drawing the same images again and again, with repeats, to see how far a figure "
    "would move with other images.",
    "interval": "A range made so that 95 of 100 such ranges (at 95 %) hold the true value.",
    "quantile": "The 0.95-quantile of some values is above 95 % of them.",
    "standard deviation": "How far values usually lie from their mean.",
    "standard error": "How far an estimate usually lies from the truth.",
    "paired": "Two methods on the same images: what an image does to both drops out.",
    "McNemar": "A test of two detectors on the same images: it looks only at images that one got "
    "right and the other wrong.",
    "Bonferroni": "A correction for many comparisons: each must be surer, so that all together "
    "err as seldom as stated.",
    "Bayes factor": "How many times likelier one explanation makes the data than another. 10 is "
    "strong, 100 decisive.",
    "Jeffreys": "An interval for a share (of 0 in 60, say) that does not shrink to nothing.",
    "conformal": "A way to thresholds that keep a promised false-alarm rate, as long as new "
    "normal images are like the old ones.",
    "p-value": "How often chance alone would give something as extreme; below 0.05 in 5 % of "
    "cases where nothing is there.",
    "martingale": "A bet against the claim that nothing has changed: if the claim holds, it "
    "seldom grows large.",
    "rank correlation": "Whether two lists order things alike: 1 the same, 0 unrelated, "
    "-1 reversed.",
    "permutation": "The same values in another order.",
    "PCA": "The directions in which points spread most; keeping the first few loses little.",
    "whitening": "Stretching directions so that points spread equally in all of them.",
    "ReConPatch": "A learnt linear map of patch features that pulls alike patches together "
    "(Hyun et al., WACV 2024).",
    "PatchCore": "The method of this repository: compare patches with a bank of normal ones "
    "(Roth et al., CVPR 2022).",
    "SHA-256": "A fingerprint of a file: another content, another fingerprint.",
}


def occurrences(text: str) -> list[str]:
    """List the glossary's words that occur in a text, in order of their first place."""
    found = {}
    for word in GLOSSARY:
        pattern = rf"(?<![\w-]){re.escape(word)}s?(?![\w-])"
        match = re.search(pattern, text, 0 if word[0].isupper() else re.IGNORECASE)
        if match:
            found[word] = match.start()
    return sorted(found, key=found.__getitem__)
