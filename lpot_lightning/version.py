"""The version of this package, also written into its files."""

VERSION = "0.2.0.dev0"
