"""Numbers and lists in words."""

from collections.abc import Sequence


def times(factor: float) -> str:
    """Write a log10 Bayes factor as a number of times."""
    size = abs(factor)
    if size == float("inf"):
        return "infinitely many times"
    if size >= 6:
        return f"10^{size:.0f} times"
    if size < 2:
        return f"{10**size:.1f} times"
    return f"{float(f'{10**size:.2g}'):,.0f} times"


def compared(factor: float) -> str:
    """Write a log10 Bayes factor as so many times likelier or less likely."""
    return f"{times(factor)} {'likelier' if factor > 0 else 'less likely'}"


def listed(words: Sequence[object], last: str = "and") -> str:
    """Join words with commas and a last word."""
    texts = [str(word) for word in words]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} {last} {texts[-1]}"
