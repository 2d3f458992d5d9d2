"""Stands in for torchaudio where a library imports it and text needs none of it."""
