"""While a model is trained: the drift of its layers, callbacks for trainers, and CKA as a metric of torchmetrics."""
