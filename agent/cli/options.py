"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

C = TypeVar("C", bound=Callable[..., object])


def site_option(command: C) -> C:
    """`--site FILE`. Whether the file is right is answered by the settings, which say it better than click can."""
    return click.option(
        "--site",
        "site_file",
        required=True,
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="The site file, for example site.toml.",
    )(command)


def json_option(command: C) -> C:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs instead of text.")(
        command
    )


def language_option(command: C) -> C:
    """`--lang en|zh`."""
    return click.option(
        "--lang",
        "language",
        type=click.Choice(["en", "zh"]),
        default="en",
        show_default=True,
        help="Language of the text: English or Chinese.",
    )(command)
