"""Depth-to-Semantic: does a network that was taught depth learn to segment faster and better?"""
