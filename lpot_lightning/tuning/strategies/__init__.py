"""Generators that yield a recipe and are sent its score; `table` has their names."""
