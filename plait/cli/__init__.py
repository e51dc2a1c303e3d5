"""The `plait` command: `pip install "plait[cli]"`."""

import sys


def main() -> None:
    """What the `plait` command does."""
    try:
        from plait.cli._app import app
    except ImportError as error:
        sys.exit(f'the plait command needs more packages: pip install "plait[cli]" ({error})')
    app()
