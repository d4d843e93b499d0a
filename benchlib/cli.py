"""The command `benchlib`: back up and restore the store."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchlib.domain.errors import BenchlibError
from benchlib.infrastructure.storage.backup import backup_store, restore_store
from benchlib.settings import get_settings


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; exits with a sentence if it fails."""
    parser = argparse.ArgumentParser(
        prog="benchlib",
        description="Back up and restore the SQLite store named in the settings. The dashboard "
        "itself is started by: streamlit run app.py",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, description in (
        ("backup", "copy the store to a new file, even while runs are writing"),
        ("restore", "create a new store from such a copy"),
    ):
        command = commands.add_parser(name, help=description, description=description)
        command.add_argument("file", type=Path, help="the copy")
    chosen = parser.parse_args(arguments)
    try:
        url = get_settings().store_url
        if chosen.command == "backup":
            found, did = backup_store(url, chosen.file), f"{chosen.file} holds"
        else:
            found, did = restore_store(chosen.file, url), "The store now holds"
    except BenchlibError as problem:
        sys.exit(str(problem))
    sys.stdout.write(f"{did} {found.runs:,} runs with {found.results:,} ratings.\n")
