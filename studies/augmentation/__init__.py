"""Changed copies of normal cells in the bank, and images of equal light."""
