"""The documentation: it is built strictly, what is generated is up to date, and its commands and manifests are real."""
