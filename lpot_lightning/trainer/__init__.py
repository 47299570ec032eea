"""A Trainer, borrowed and given back: the one door to Lightning's privates.

In: the user's Trainer and LightningModule. Out: what judges and feeds models without being seen,
the weights that were chosen, one checkpoint file. Read in this order: `checks`, `monitor`,
`weights`, `session`, `validation_judge`, `borrowed_loop`.
"""
