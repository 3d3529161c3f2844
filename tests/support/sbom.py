"""`make sbom`: what an installation consists of, as CycloneDX 1.6 JSON in dist/sbom.cdx.json.

Made from the lock (names, versions, hashes of every file that may be installed) and from the metadata of the installed
packages (licences, who needs whom). The same lock gives the same bytes: the serial number comes from the content, there
is no time in it, and no name of a machine, a path or a place that packages come from.
"""

import hashlib
import json
import re
import sys
import tomllib
import uuid
from email.message import Message
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from agent import __version__

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "config" / "locks" / "runtime.txt"
TARGET = ROOT / "dist" / "sbom.cdx.json"
_ENTRY = re.compile(r"([a-z0-9-]+)==(\S+)(?: ; ([^\\]+?))? \\")
_HASH = re.compile(r"    --hash=sha256:([0-9a-f]{64})")

Json = dict[str, Any]


def bill() -> Json:
    """The bill of materials of the runtime lock."""
    components = [_component(*entry) for entry in _locked(LOCK.read_text("utf-8"))]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    own = {
        "type": "application",
        "bom-ref": "metering-agent",
        "name": project["name"],
        "version": __version__,
        "description": project["description"],
        "licenses": [{"license": {"id": project["license"]}}],
    }
    document: Json = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": own},
        "components": components,
        "dependencies": _dependencies(components, project["dependencies"]),
    }
    content = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).digest()
    return {**document, "serialNumber": f"urn:uuid:{uuid.UUID(bytes=content[:16], version=4)}"}


def _locked(text: str) -> list[tuple[str, str, str, list[str]]]:
    """Name, version, marker and hashes of each package of a lock."""
    found: list[tuple[str, str, str, list[str]]] = []
    for line in text.splitlines():
        if entry := _ENTRY.fullmatch(line):
            found.append((entry[1], entry[2], entry[3] or "", []))
        elif digest := _HASH.match(line):
            found[-1][3].append(digest[1])
    return found


def _component(name: str, version: str, marker: str, hashes: list[str]) -> Json:
    purl = f"pkg:pypi/{name}@{version}"
    component: Json = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
    if licence := _licence(name):
        component["licenses"] = [licence]
    if marker:
        component["properties"] = [{"name": "metering-agent:only-where", "value": marker}]
    # One of these files is installed, by platform; hence hashes of distributions and not of the component.
    digests = [{"alg": "SHA-256", "content": digest} for digest in hashes]
    component["externalReferences"] = [{"type": "distribution", "url": purl, "hashes": digests}]
    return component


def _licence(name: str) -> Json | None:
    """As the package says it: an SPDX expression where it has one, else its own words in one line."""
    try:
        about: Message = metadata.metadata(name)  # type: ignore[assignment]
    except metadata.PackageNotFoundError:  # of another platform, so not installed here
        return None
    if expression := about.get("License-Expression"):
        return {"expression": expression}
    classified = [
        text.rpartition(" :: ")[2]
        for text in about.get_all("Classifier", [])
        if text.startswith("License ::")
    ]
    text = (classified or [about.get("License") or ""])[0].strip().partition("\n")[0]
    return {"license": {"name": text}} if text else None


def _dependencies(components: list[Json], direct: list[str]) -> list[Json]:
    refs = {component["name"]: component["bom-ref"] for component in components}
    graph = [{"ref": "metering-agent", "dependsOn": _refs(direct, refs)}]
    for name, ref in refs.items():
        try:
            needed = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            needed = []
        graph.append({"ref": ref, "dependsOn": _refs(needed, refs)})
    return graph


def _refs(requirements: list[str], refs: dict[str, str]) -> list[str]:
    """Those that are in the lock; extras that nobody asked for are not."""
    wanted = [Requirement(text) for text in requirements]
    names = {
        canonicalize_name(each.name)
        for each in wanted
        if each.marker is None or "extra" not in str(each.marker)
    }
    return sorted(refs[name] for name in names if name in refs)


def text_of(document: Json) -> str:
    """As it is written."""
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    """Write the file. Returns the exit code."""
    TARGET.parent.mkdir(exist_ok=True)
    document = bill()
    TARGET.write_text(text_of(document), "utf-8")
    print(f"{TARGET.relative_to(ROOT)}: {len(document['components'])} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
