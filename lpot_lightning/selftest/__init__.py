"""Kills, full disks and damaged files, tried on a machine and file system of the user's.

In: a folder, how often, a seed. Out: a table of what was tried and what went wrong. Read in this
order: `file_calls`, `forked`, `scene`, `kills`, `disk_faults`, `mutations`, `little_run`, `trying`.
"""
