"""A simulated RS485 line, true to the byte: one model without I/O, run in virtual time, behind a pty or on TCP."""
