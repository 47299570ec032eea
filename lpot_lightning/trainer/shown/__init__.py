"""What a fit shows: bars, tables, and what loggers keep."""
