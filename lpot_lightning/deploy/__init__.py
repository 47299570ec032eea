"""Out of the process: a model as a file that other runtimes run, checked right after writing.

In: a model, int8 or fp32, a call of it, what is asked for. Out: a file, and how near it is to the
model. The way in is `asking`; calls come from `recording`, or from files by `stored`. Read in this
order: `options`, `origin`, `calls`, `whole_graph`, `plain_program`, `exported_program`, `onnx/`,
`writing`, `comparing`, `running/`, `checking`, `exchanged`, `exported`, `export`.
"""
