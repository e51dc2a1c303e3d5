import errands
import pytest
from typer.testing import CliRunner

from plait.cli._app import app


@pytest.fixture(autouse=True)
def _road():
    errands.is_down[0] = False


@pytest.fixture
def journal(tmp_path):
    """The address of a journal that is not there yet."""
    return f"sqlite:///{tmp_path}/runs.db"


@pytest.fixture
def plait(journal, monkeypatch):
    """The command, with the journal in its environment."""
    monkeypatch.setenv("PLAIT_JOURNAL", journal)

    def invoke(*arguments, given=None, env=None):
        return CliRunner().invoke(app, list(map(str, arguments)), input=given, env=env)

    return invoke
