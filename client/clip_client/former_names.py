"""Former names of modules: an import of one gives the module under its present name, and warns."""

import importlib
import importlib.abc
import importlib.machinery
import sys
import warnings
from collections.abc import Mapping, Sequence
from types import ModuleType


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Import hook for the former names of one package's modules."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return a spec for a former name, None for any other."""
        return importlib.machinery.ModuleSpec(name, self) if name in self._names else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """Return the module under its present name."""
        now = self._names[spec.name]
        warnings.warn(f"{spec.name} is {now} now: import that", DeprecationWarning, stacklevel=2)
        module = importlib.import_module(now)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Give the module, which is executed already, its own spec back."""
        if module.__spec__:
            module.__spec__ = module.__spec__.loader_state


def add(package: str, names: Mapping[str, str]) -> None:
    """Let modules of a package be imported by their former names; both names are relative to it."""
    sys.meta_path.append(_Finder({f"{package}.{former}": f"{package}.{now}" for former, now in names.items()}))
