"""The stages: poll, close, publish, acknowledge. They never call one another; they meet in the journal.

Each may die anywhere and be run again. Everything outside (time, bus, storage, network, randomness) comes through
the ports of `agent.service.ports`, so that one seed can replay a whole factory.
"""
