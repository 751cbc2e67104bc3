"""Settings of the study."""

from typing import Literal

from studies.shared.where import Where
from validation.sections import checked, different, integer, integer_or_null, number

METHODS = ("exact", "two_rounds", "inverted_file")


class Settings(Where):
    """Size of a shard, ways to select and to search, and where tasks run."""

    images_per_shard: integer(1, 100_000)
    methods: checked(
        list[Literal[METHODS]], different, f"a list of different ones of {', '.join(METHODS)}"
    )
    oversampling: number("a number above 1", gt=1)
    lists: integer_or_null(1, "4 times the root of the bank's size")
    probes: integer(1)
    recall_queries: integer(1)

    def lists_of(self, n_bank: int) -> int:
        """Return the number of lists for a bank, at most one a patch."""
        return min(n_bank, self.lists or round(4 * n_bank**0.5))
