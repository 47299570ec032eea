"""Exported files, run here.

In: a file of any form, tensors. Out: what its runtime gives, and how many of its ops are int8. Read
in this order: `runtime`, `onnx_runtime`, `openvino_runtime`, `fakes`, `torch_runtime`, `runtimes`,
`file_model`.
"""
