"""What a meter's registers mean: the pure core between the words on the wire and the deltas that are reported.

Nothing in here knows a clock, a file, a socket, a thread, randomness or a log. Every function answers a question from
its arguments alone, in integers of 0.001 Wh and exact fractions.
"""
