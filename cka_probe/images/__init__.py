"""Any source of images, as batches that a model can be shown."""
