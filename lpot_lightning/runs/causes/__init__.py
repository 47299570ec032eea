"""Why ops are hurt by int8, or not int8: measured, known from the run, put into words."""
