"""What tests share: foreign programs (mosquitto, mbpoll), child processes that cannot outlive the run, free ports."""
