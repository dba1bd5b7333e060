"""One copy: from what a source says it consists of to a published tree. The node's agent and `pull` both use it."""
