"""Things by name: those of ilk, and those that installed packages offer as entry points."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from typing import Any, Generic, TypeVar

from ilk.system.text import did_you_mean, in_short

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """The methods, views or backbones that are known here, by name.

    `what`: what a thing is called in messages, such as "method". `own`: those of ilk. `group`: the entry-point group
    of the others. `check(name, thing)` returns what an entry point offered, or raises ValueError with the reason why it
    cannot be used. Entry points are read when a name is asked for that ilk does not have, or when all are listed. One
    that cannot be loaded is left out, with a warning that names its package.
    """

    def __init__(self, what: str, group: str, own: Mapping[str, T], check: Callable[[str, Any], T]) -> None:
        self.what, self.group, self.own, self.check = what, group, dict(own), check
        self._read = False
        self._installed: dict[str, tuple[T, dict[str, str]]] = {}
        self._broken: dict[str, str] = {}
        self._given: dict[str, tuple[T, dict[str, str]]] = {}

    def give(self, name: str, thing: T, origin: dict[str, str]) -> None:
        """Makes a thing of the user's own known in this process. It is found by name, and not listed.

        Raises ValueError where ilk or an installed package has the name.
        """
        if name in self.own or name in self.installed():
            raise ValueError(f"ilk already has a {self.what} called '{name}'. Give yours another name.")
        self._given[name] = (thing, origin)

    def find(self, name: str) -> T:
        """The thing called `name`. Raises ValueError with the nearest name."""
        if name in self:
            return self[name]
        if name in self._broken:
            raise ValueError(f"{self._broken[name]} Update the package, or remove it.")
        raise ValueError(f"Unknown {self.what} '{name}'.{did_you_mean(name, self)} Known: {', '.join(self)}.")

    def origin(self, name: str) -> dict[str, str] | None:
        """Where the thing came from, as plain values; None for those of ilk."""
        if name in self.own:
            return None
        return {**self._given, **self.installed()}[name][1]

    def installed(self) -> Mapping[str, tuple[T, dict[str, str]]]:
        """The things of installed packages, each with its origin."""
        if not self._read:
            self._read = True
            for entry in metadata.entry_points(group=self.group):
                self._load(entry)
        return self._installed

    def _load(self, entry: metadata.EntryPoint) -> None:
        package, version = ("unknown", "") if entry.dist is None else (entry.dist.name, entry.dist.version)
        try:
            if entry.name in self.own or entry.name in self._installed:
                raise ValueError("the name is taken")
            self._installed[entry.name] = self.check(entry.name, entry.load()), {"package": package, "version": version}
        except (Exception, SystemExit) as error:  # whatever that code raises
            reason = in_short(error).rstrip(".")
            reason = reason if isinstance(error, ValueError) else f"{type(error).__name__}: {reason}"
            text = f"The {self.what} '{entry.name}' of the package {package} cannot be used ({reason})."
            self._broken[entry.name] = text
            warnings.warn(f"{text} It is left out.", stacklevel=2)

    def __getitem__(self, name: str) -> T:
        if name in self.own:
            return self.own[name]
        if name in self._given:
            return self._given[name][0]
        return self.installed()[name][0]

    def __contains__(self, name: object) -> bool:
        return name in self.own or name in self._given or name in self.installed()

    def __iter__(self) -> Iterator[str]:
        return iter([*self.own, *self.installed()])

    def __len__(self) -> int:
        return len(self.own) + len(self.installed())
