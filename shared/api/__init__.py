"""The Kubernetes API: `serving.kserve.io/v1alpha1` as pydantic models, and the generator of its CRDs."""
