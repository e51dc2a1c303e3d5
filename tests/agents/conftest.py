import pytest
from serving import ModelServer


@pytest.fixture(scope="module")
def anyio_backend():
    """Agents are pydantic-ai's, which runs on asyncio only."""
    return "asyncio"


@pytest.fixture
def journal(tmp_path):
    """The address of a journal that is not there yet."""
    return f"sqlite:///{tmp_path}/runs.db"


@pytest.fixture
def server():
    """A server that speaks OpenAI's protocol."""
    with ModelServer() as server:
        yield server
