"""What people see, as pure functions of what was read: values in, lines out."""
