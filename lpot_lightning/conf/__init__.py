"""The YAML, read with file and line.

In: a path, a mapping or an OmegaConf object. Out: frozen values that are checked, or an error that
says where and what is allowed. Read in this order: `document`, `loader`, `cursor`, `reader`,
`schema`.
"""
