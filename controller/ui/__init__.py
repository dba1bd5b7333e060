"""The page for the wall: what the controller knows, drawn by a browser. It reads; nothing can be changed through it."""
