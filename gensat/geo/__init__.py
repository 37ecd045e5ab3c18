"""Rasters, canvases, coordinate systems, layouts."""
