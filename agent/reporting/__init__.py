"""What is said to the platform and how both sides prove it: messages, envelope, chain, verification. Pure.

The wire format page of the design is normative; each module names the section it follows.
"""
