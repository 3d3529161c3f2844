"""The unit and everything beside it, judged without a running systemd."""
