"""The node agent: streams models into the node's cache folder and reports what is there."""
