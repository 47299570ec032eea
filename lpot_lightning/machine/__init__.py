"""Files, lock, signals, processes, random numbers.

In: paths, and what somebody else may do at any moment. Out: files that are whole, one run a
workspace, exit codes. Read in this order: `reading`, `files`, `own_files`, `lock`, `signals`,
`ranks`.
"""
