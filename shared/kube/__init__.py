"""The Kubernetes client layer, and the only importer of kubernetes_asyncio."""
