"""The command `benchlib`: copies of the store, made and put back."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchlib.domain.errors import BenchlibError
from benchlib.infrastructure.storage.backup import backup_store, restore_store
from benchlib.settings import get_settings


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; ends the process with a sentence if it could not be done."""
    parser = argparse.ArgumentParser(
        prog="benchlib",
        description="Copies of the SQLite store that the settings name. The dashboard itself is "
        "started by: streamlit run app.py",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, does in (
        ("backup", "copy the store to a new file, also while runs are writing"),
        ("restore", "make a new store of such a copy"),
    ):
        command = commands.add_parser(name, help=does, description=does)
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
