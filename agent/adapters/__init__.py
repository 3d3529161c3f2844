"""The only place for foreign libraries and the operating system: one module each, behind the ports of the service."""
