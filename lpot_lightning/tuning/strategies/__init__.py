"""Generators that yield a recipe and are sent its verdict; `table` has their names."""
