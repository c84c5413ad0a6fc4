"""Models: what they are called, how they are built, loaded, addressed and recorded."""
