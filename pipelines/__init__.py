"""One task, one file, one DiffusionPipeline."""
