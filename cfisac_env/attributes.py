"""Attributes of environments: fixed constructor arguments, adjustable requirements, and the environment specification."""

from __future__ import annotations

import dataclasses
import enum
import importlib
import os
from collections.abc import Mapping
from typing import Any, Generic, TypeVar, cast

import numpy as np
from gymnasium.envs.registration import EnvSpec

from cfisac_env.config import FIELDS, REQUIREMENT_FIELDS, SystemConfig, check_keywords, nearest

T = TypeVar("T")

_STRATEGY = "strategy"  # key of the class in a serialised strategy


class Fixed(Generic[T]):
    """Attribute that is set once by the constructor."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> T:
        if instance is None:
            return cast(T, self)
        try:
            return cast(T, instance.__dict__[self._name])
        except KeyError:
            raise AttributeError(f"{type(instance).__name__} has no {self._name} yet") from None

    def __set__(self, instance: Any, value: T) -> None:
        if self._name in instance.__dict__:
            raise _fixed(instance, self._name, value)
        instance.__dict__[self._name] = value


class _ConfigField:
    """Configuration field as an attribute of its environment; requirements and the reward are writable."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else getattr(instance.config, self._name)

    def __set__(self, instance: Any, value: Any) -> None:
        if self._name not in REQUIREMENT_FIELDS:
            raise _fixed(instance, self._name, value)
        instance.configure(**{self._name: value})


class Configurable:
    """Environment whose requirements and reward may change after construction, for example in curricula.

    Every configuration field is an attribute. Those in `REQUIREMENT_FIELDS` are writable; the other fields and constructor arguments are
    read-only.
    """

    _config: SystemConfig
    _spec: EnvSpec | None = None

    @property
    def config(self) -> SystemConfig:
        """Current configuration."""
        return self._config

    def configure(self, **fields: Any) -> None:
        """Change requirements and the reward, from the next decision on.

        Drops are unchanged. Observations show the new requirements from the next `reset` or `step` on, so change them between episodes for
        agents that depend on them.

        Args:
            fields: any of `cfisac_env.config.REQUIREMENT_FIELDS`.

        Raises:
            TypeError: another configuration field, or an unknown name.
            ValueError: a value out of its range.
        """
        check_keywords(f"{type(self).__name__}.configure()", fields, REQUIREMENT_FIELDS)
        self._set_config(self._config.changed(**fields))

    def _set_config(self, config: SystemConfig) -> None:
        """Replace the configuration and all derived state."""
        raise NotImplementedError

    @property
    def _horizon(self) -> int | None:
        """Number of steps after which episodes are truncated; None where they terminate."""
        return None

    @property
    def spec(self) -> EnvSpec | None:
        """Specification of `gym.make` in JSON-serialisable values, with the horizon of truncated episodes."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        if spec is not None:
            limits = [steps for steps in (spec.max_episode_steps, self._horizon) if steps is not None]
            kwargs = {name: _serialisable(value) for name, value in spec.kwargs.items()}
            spec = dataclasses.replace(spec, kwargs=kwargs, max_episode_steps=min(limits, default=None))
        self._spec = spec


for _name in FIELDS:
    setattr(Configurable, _name, _ConfigField(_name))


def unknown_attribute(instance: Any, name: str) -> AttributeError:
    """Build an error that suggests the nearest public attribute."""
    public = [known for known in dir(instance) if not known.startswith("_")]
    return AttributeError(f"{type(instance).__name__} has no attribute {name!r}{nearest(name, public)}")


def _fixed(instance: Any, name: str, value: Any) -> AttributeError:
    return AttributeError(
        f"{name} of {type(instance).__name__} is fixed when it is made: make another one with {name}={value!r}. "
        f"Writable attributes are {', '.join(REQUIREMENT_FIELDS)}"
    )


def built(name: str, value: Any) -> Any:
    """Return a strategy object, built from its serialised form if it is a mapping.

    Raises:
        ValueError: a mapping that is not a serialised strategy.
    """
    if not isinstance(value, Mapping):
        return value
    arguments = dict(value)
    try:
        module, _, attribute = arguments.pop(_STRATEGY).partition(":")
        return getattr(importlib.import_module(module), attribute)(**arguments)
    except (KeyError, AttributeError, ImportError, TypeError, ValueError) as error:
        raise ValueError(
            f"{name}={dict(value)!r} describes no strategy ({error!r}); give an object, or its class as "
            f'"{_STRATEGY}": "module:Class" beside its arguments'
        ) from error


def _serialisable(value: Any) -> Any:
    """Convert a constructor argument to an equivalent JSON-serialisable value where possible."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, np.generic):
        return value.item()
    kind = type(value)
    if kind.__module__ == "torch" and kind.__name__ == "device":
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        plain = {field.name: _serialisable(getattr(value, field.name)) for field in fields}
        importable = "<" not in kind.__qualname__ and all(field.init for field in fields)
        if importable and all(isinstance(item, str | int | float | bool | None) for item in plain.values()):
            return {_STRATEGY: f"{kind.__module__}:{kind.__qualname__}", **plain}
    return value
