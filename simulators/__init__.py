"""Everything around the agent that a factory and a platform would be: meters, lines, loads, broker, carbon platform.

Simulators may import the agent's pure packages and its settings; the agent never imports a simulator.
"""
