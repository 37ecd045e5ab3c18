"""Networks: the default model's own, and ports of published ones (ModelMixin + ConfigMixin, safetensors)."""
