"""Any bytes, at every parser: `make fuzz` with coverage as guide, and a seeded run of each in `make test`."""
