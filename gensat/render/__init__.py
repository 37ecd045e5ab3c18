"""From a georeferenced scene to views of it: rays, cameras, exact surfaces, volumes, splats, light and exports."""
