"""Images of any source: read, chosen, prefetched and batched."""
