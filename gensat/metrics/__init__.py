"""Torch-only metrics with a pluggable feature extractor."""
