"""The version of this package, also written into its files."""

VERSION = "0.1.0"
