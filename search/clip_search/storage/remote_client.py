"""Client of remote databases, which LanceDB imports with itself: loaded when somebody asks for it.

Here a database is a folder or an object store, and a third of LanceDB's start went into that client's hundreds of methods.
The types of its messages, which LanceDB names in its own signatures, are imported as before.
"""

import importlib
import importlib.util
import sys
from typing import Any

_CLIENT = "lance_namespace_urllib3_client"


def defer() -> None:
    """Have the package's modules imported without the package's own code, which runs at the first look for one of its names."""
    spec = importlib.util.find_spec(_CLIENT) if _CLIENT not in sys.modules else None
    if spec is None or spec.loader is None:
        return
    package, loader = importlib.util.module_from_spec(spec), spec.loader

    def load(name: str) -> Any:
        if importlib.util.find_spec(f"{_CLIENT}.{name}"):
            return importlib.import_module(f"{_CLIENT}.{name}")
        vars(package).pop("__getattr__", None)
        loader.exec_module(package)
        return getattr(package, name)

    vars(package)["__getattr__"] = load
    sys.modules[_CLIENT] = package
