"""Randomness from the operating system: chain ids, session ids, and nothing else that must be unguessable.

Behind a port because one seed has to replay a whole simulated factory. The simulated twin is in `simulators.world`.
"""

import secrets


class SystemEntropy:
    """`agent.service.ports.Entropy` over the kernel's generator."""

    def token(self, size: int) -> bytes:
        """`size` unpredictable bytes, size >= 1 (none would be an id that everybody shares)."""
        if size < 1:
            raise ValueError(f"a token has at least 1 byte, not {size}")
        return secrets.token_bytes(size)
