"""Simulated meters: registers from the same profiles that drive the agent, replies at byte level so that they can be
late, damaged, foreign or missing."""
