"""The one-file verifier page: its scripts taken out, and its policy, which names exactly these scripts by their hashes.

After a change of the page: `python -m tests.evidence.page` writes the hashes anew.
"""

import base64
import hashlib
import re

from agent.resources import package_path

PAGE = package_path("reporting", "verify.html")
_BLOCK = re.compile(r"<(script|style)(?: id=\"(\w+)\")?>(.*?)</\1>", re.DOTALL)
_POLICY = re.compile(r'(http-equiv="Content-Security-Policy" content=")([^"]*)"')


def script(name: str) -> str:
    """The text of one script of the page: `judge` knows no browser, `page` does."""
    found = [str(text) for _, id_, text in _BLOCK.findall(PAGE.read_text("utf-8")) if id_ == name]
    return found[0]


def policy() -> str:
    """The policy that stands in the page."""
    match = _POLICY.search(PAGE.read_text("utf-8"))
    assert match is not None
    return match[2]


def wanted_policy() -> str:
    """The policy that allows what stands in the page, and nothing else."""
    hashes: dict[str, list[str]] = {"script": [], "style": []}
    for kind, _, text in _BLOCK.findall(PAGE.read_text("utf-8")):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        hashes[kind].append(f"'sha256-{digest}'")
    return (
        f"default-src 'none'; script-src {' '.join(hashes['script'])}; style-src {' '.join(hashes['style'])}; "
        "form-action 'none'; base-uri 'none'"
    )


if __name__ == "__main__":
    PAGE.write_text(
        _POLICY.sub(lambda match: f'{match[1]}{wanted_policy()}"', PAGE.read_text("utf-8")), "utf-8"
    )
