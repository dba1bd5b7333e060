"""The passes: read the world, plan, execute. Each is for one key and may be repeated at any time."""
