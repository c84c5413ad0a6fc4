"""See what vision models have learnt, layer by layer."""
