"""The whole forensic study of printed F1 values: with and without another entrant's value."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from studies.gap.enumeration import (
    FlagCounts,
    Reading,
    Reported,
    flag_counts,
    shares_of,
    splits,
    standard_reading,
)
from studies.gap.forensics import (
    IN_ORDER,
    NO_INFORMATION,
    likelihoods,
    log10_factor,
    standard_causes,
)
from studies.gap.information import Profile, information_profile
from studies.gap.shared_order import largest_overlap, shared_order_likelihood, working_overlap

ONE_ORDER = "working, one row order for both"
ONE_ORDER_NESTED = "one row order, flags as alike as can be"
AMOUNTS = (0.1, 0.2, 0.3)  # of information, that none at all is compared with
BLIND = (NO_INFORMATION, ONE_ORDER, ONE_ORDER_NESTED)


@dataclass(frozen=True)
class Weighed:
    """Causes weighed under one reading.

    Parameters
    ----------
    likelihood : dict of float
        Each cause's probability of the printed values; all 0 where no split fits.
    profile : Profile
    """

    reading: Reading
    likelihood: dict[str, float]
    profile: Profile

    @property
    def possible(self) -> bool:
        """Tell whether any cause gives the printed values."""
        return any(self.likelihood.values())

    def best(self, *, blind: bool) -> str:
        """Name the likeliest cause without (``blind``) or with information in the flags."""
        names = [name for name in self.likelihood if (name in BLIND) == blind]
        return max(names, key=self.likelihood.__getitem__)

    def factor(self, for_: str, against: str) -> float:
        """Return the log10 Bayes factor of two causes."""
        return log10_factor(self.likelihood[for_], self.likelihood[against])

    def rival_of_one_order(self) -> str:
        """Name the likeliest cause that is no common row order."""
        names = [name for name in self.likelihood if name not in (ONE_ORDER, ONE_ORDER_NESTED)]
        return max(names, key=self.likelihood.__getitem__)


def weigh(
    models: Sequence[Reported], reading: Reading, *, working: float, window: float
) -> Weighed:
    """Weigh all causes; a common row order only where there are two models."""
    causes = standard_causes(reading, working=working, window=window)
    found = likelihoods(models, reading, causes)
    if len(models) == 2:
        for name, overlap in (
            (ONE_ORDER, working_overlap(reading.n_anomalous, reading.n_normal, working)),
            (ONE_ORDER_NESTED, largest_overlap),
        ):
            found[name] = shared_order_likelihood(models, reading, overlap=overlap, window=window)
    return Weighed(reading, found, information_profile(models, reading, window))


def standard_variants(base: Reading, *, working: float, window: float) -> dict[str, tuple]:
    """One change at a time: name to (reading, ``working``, ``window``)."""
    n, half = base.n_images, round(base.n_images / 2)
    few, many = max(1, base.n_anomalous - n // 20), min(n - 1, base.n_anomalous + n // 20)
    readings = {
        "base": base,
        "private part = all images": replace(base, private="all"),
        "zeros dropped": replace(base, digits="zeros dropped"),
        "rounded only": replace(base, rounding="round"),
        "truncated only": replace(base, rounding="truncate"),
        "public part stratified": replace(base, stratified=True),
        "public part of any size": replace(base, public_sizes=tuple(range(1, n))),
        "public 20 to 40 %": replace(base, public_sizes=shares_of(n, (20, 25, 30, 35, 40))),
        f"public {half} images": replace(base, public_sizes=(half,)),
        f"{few} anomalous": replace(base, n_anomalous=few),
        f"{many} anomalous": replace(base, n_anomalous=many),
    }
    variants = {name: (reading, working, window) for name, reading in readings.items()}
    for share in (0.1, 0.5, 1.0):
        variants[f"flags within {100 * share:.0f} %"] = (base, working, share)
    return variants


@dataclass(frozen=True)
class Variant:
    """The main answer under one change of the assumptions; ``None`` where nothing fits.

    Parameters
    ----------
    factor : float or None
        log10 Bayes factor of no information against the likeliest cause with information.
    decisive_from : float or None
        See `Profile.decisive_from`.
    """

    name: str
    evidence: bool
    factor: float | None
    decisive_from: float | None


def vary(
    models: Sequence[Reported], name: str, reading: Reading, *, working: float, window: float
) -> Variant:
    """Weigh no information against the likeliest cause with information under one variant."""
    causes = standard_causes(reading, working=working, window=window)
    found = likelihoods(models, reading, causes)
    evidence = bool(reading.other_private)
    if not any(found.values()):
        return Variant(name, evidence, None, None)
    blind = found.pop(NO_INFORMATION)
    profile = information_profile(models, reading, window, least=0)
    return Variant(
        name, evidence, log10_factor(blind, max(found.values())), profile.decisive_from()
    )


@dataclass(frozen=True)
class Investigation:
    """All that is said about the printed values.

    Parameters
    ----------
    counts : list of FlagCounts
        Each model under each reading, without and, where there is one, with the evidence.
    plain, evident : Weighed
        Without and with the other entrant's value; ``evident`` is ``None`` where there is none.
    variants : list of Variant
    window : float
        See `studies.gap.forensics.flag_window`.
    """

    models: list[Reported]
    counts: list[FlagCounts]
    plain: Weighed
    evident: Weighed | None
    variants: list[Variant]
    window: float

    @property
    def main(self) -> Weighed:
        """Return what is weighed with all the evidence there is."""
        return self.plain if self.evident is None else self.evident

    @property
    def all_weighed(self) -> dict[str, Weighed]:
        """Return both, by what they rest on; one where there is no evidence."""
        both = {"printed values alone": self.plain}
        if self.evident is not None:
            both[f"with another entrant's {self.evident.reading.other_private}"] = self.evident
        return both


def investigate(
    models: Sequence[Reported],
    n_images: int,
    n_anomalous: int,
    *,
    other_private: str,
    working: float,
    window: float,
) -> Investigation:
    """Carry out the study.

    Parameters
    ----------
    other_private : str
        Private F1 that another entrant printed; empty to do without.
    working, window : float
        See `standard_causes`.
    """
    settings = {"working": working, "window": window}
    bases = [standard_reading(n_images, n_anomalous)]
    if other_private:
        bases.append(replace(bases[0], other_private=other_private))
    counts = [
        flag_counts(model, replace(base, private=private, digits=digits))
        for base in bases
        for model in models
        for private in ("rest", "all")
        for digits in ("given", "zeros dropped")
    ]
    variants = [
        vary(models, name, reading, working=least, window=share)
        for base in bases
        for name, (reading, least, share) in standard_variants(base, **settings).items()
    ]
    weighed = [weigh(models, base, **settings) for base in bases]
    evident = weighed[1] if other_private else None
    return Investigation(list(models), counts, weighed[0], evident, variants, window)


def private_anomalous(reading: Reading) -> list[int]:
    """List how many anomalous images the private part can hold."""
    if reading.private == "all":
        return [reading.n_anomalous] if splits(reading)[0] else []
    return sorted({reading.n_anomalous - count for _, count in splits(reading)[0]})


def summary(study: Investigation) -> dict[str, object]:
    """Gather the figures for JSON; factors are log10, ``None`` where something is impossible."""
    n_anomalous = study.plain.reading.n_anomalous
    result: dict[str, object] = {
        "models": [model.__dict__ for model in study.models],
        "reading": {
            key: getattr(study.main.reading, key)
            for key in ("n_images", "n_anomalous", "other_private")
        },
    }
    for key, weighed in (("printed", study.plain), ("with_evidence", study.evident)):
        if weighed is None or not weighed.possible:
            result[key] = None
            continue
        rival = weighed.best(blind=False)
        order = {}
        if ONE_ORDER in weighed.likelihood:
            other = weighed.rival_of_one_order()
            order = {
                "one_order_rival": other,
                "log10_one_order_against_rival": finite(weighed.factor(ONE_ORDER, other)),
                "log10_one_order_against_in_order": finite(weighed.factor(ONE_ORDER, IN_ORDER)),
            }
        profile = weighed.profile
        result[key] = {
            "likeliest": max(weighed.likelihood, key=weighed.likelihood.__getitem__),
            "fewest_flags_changed": fewest_changed(study, evidence=weighed is study.evident),
            "informed_rival": rival,
            "log10_no_information_against_rival": finite(weighed.factor(NO_INFORMATION, rival)),
            **order,
            "log10_no_information_against_information": {
                f"{least:g}": dict(
                    zip(("mean", "best_suited"), map(finite, profile.factors(least)), strict=True)
                )
                for least in AMOUNTS
            },
            "information_decisively_below": profile.decisive_from(),
            "information_below_with_95_percent": profile.upper_bound(),
            "log10_likelihood": {
                name: finite(log10_factor(value, 1.0)) for name, value in weighed.likelihood.items()
            },
        }
    result["flags_of_a_perfect_run"] = n_anomalous
    result["variants"] = [variant.__dict__ | {"factor": finite(variant.factor)}
                          for variant in study.variants]  # fmt: skip
    return result


def fewest_changed(study: Investigation, *, evidence: bool) -> dict[str, int | None]:
    """Count the flags of a perfect run that must at least have changed, reordered or not."""
    flags = study.plain.reading.n_anomalous
    fewest: dict[str, int | None] = {}
    for model in study.models:
        own = [c for c in study.counts if c.model == model.name and c.evidence == evidence]
        distances = [each.distance(flags) for each in own if each.counts]
        fewest[model.name] = min(distances, default=None)
    return fewest


def finite(value: float | None) -> float | None:
    """Round to nine digits after the point; ``None`` for what is infinite or not there."""
    return None if value is None or abs(value) == float("inf") else round(value, 9)
