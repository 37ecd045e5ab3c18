"""Procedural streets: plans, facades, materials and weather; satellite image and street views of one place, exact in depth and class."""
