"""Polyana: train language models from one YAML recipe."""
