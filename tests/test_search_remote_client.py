"""LanceDB's client of remote databases and pandas aren't loaded with the sidecar, and are there for whoever asks."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

PACKAGE = "lance_namespace_urllib3_client"


def run(code: str) -> None:
    """Run it in a fresh process: modules are imported once."""
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=300)


def test_the_sidecar_starts_without_the_client_and_without_pandas() -> None:
    run(f"""
        import sys
        from clip_search.cli import without_pandas
        without_pandas.settle()
        from clip_search.cli import serve
        assert "lancedb" in sys.modules
        assert [name for name in sys.modules if name.startswith(("{PACKAGE}.api", "pandas"))] == []
        import pyarrow
        frame = pyarrow.table({{"n": [1, None]}}).to_pandas()
        assert "pandas" in sys.modules
        assert pyarrow.Table.from_pandas(frame)["n"].to_pylist() == [1, None]
        assert pyarrow.array(frame["n"]).to_pylist() == [1, None]
    """)


@pytest.mark.parametrize(
    "asking",
    [
        f"from {PACKAGE} import TableApi",
        f"from {PACKAGE} import *",
        f"import {PACKAGE}\nTableApi = {PACKAGE}.TableApi",
        f"from {PACKAGE}.api.table_api import TableApi",
        f"from {PACKAGE} import api\nTableApi = api.TableApi",
        f"import importlib, {PACKAGE}\nTableApi = importlib.reload({PACKAGE}).TableApi",
    ],
)
@pytest.mark.long
def test_whoever_asks_for_the_client_gets_all_of_it(asking: str) -> None:
    run(
        f"import clip_search.storage, sys\n{asking}\n"
        f"package = sys.modules['{PACKAGE}']\n"
        "assert callable(TableApi().describe_table)\n"
        "assert package.TableApi is TableApi is package.api.table_api.TableApi\n"
        "assert not hasattr(package, 'nothing')\n"
    )
