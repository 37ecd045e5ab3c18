"""The default weights, palettes and examples that ship with the package."""
