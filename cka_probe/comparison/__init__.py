"""From models and images to fingerprints, and from fingerprints to similarity matrices."""
