"""From the site file and the profiles to frozen values: every fault at once, with file, line, reason and remedy."""
