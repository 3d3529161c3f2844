"""`make bench`: the figures of the bus, as ratios against the physical limit or another program in the same run."""
