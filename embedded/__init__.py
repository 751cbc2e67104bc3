"""The embedded synthetic images: how they are drawn and what they are."""
