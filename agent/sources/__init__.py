"""Sources: one backend per URI scheme. They list, sign and name validators; the transfer engine moves the bytes."""
