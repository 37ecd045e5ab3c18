"""Flood physics: where the water is, and how deep; what is dry stays dry."""
