"""Real stores on loopback, each a context manager on free ports. Nothing here needs pytest: the demo starts them too."""
