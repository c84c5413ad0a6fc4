"""Models: architectures, checkpoint files, layers, and recording of activations."""
