"""MeSa: masked, geometric and supervised pre-training for monocular depth (Khan et al., PMLR 243, 2024)."""
