"""The on-disk store: published trees, their manifests, staging, retired trees. Blocking; callers use an executor."""
