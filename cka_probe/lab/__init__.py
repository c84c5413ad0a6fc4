"""The lab: data sets, tasks, training and evaluation, which make the checkpoints that are compared."""
