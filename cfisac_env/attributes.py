"""What may be read and changed on an environment after it is made, and what its specification says."""

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

_STRATEGY = "strategy"  # key of the class in the description of an object


class Fixed(Generic[T]):
    """An attribute that the constructor sets and nobody changes: nothing would follow the change."""

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
    """A field of the configuration, read through its environment; requirements and the reward can be written."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else getattr(instance.config, self._name)

    def __set__(self, instance: Any, value: Any) -> None:
        if self._name not in REQUIREMENT_FIELDS:
            raise _fixed(instance, self._name, value)
        instance.configure(**{self._name: value})


class Configurable:
    """An environment with a configuration, of which requirements and the reward may change at any time, as curricula do.

    Every field of the configuration is an attribute. Those in `REQUIREMENT_FIELDS` can be set; the others, and what else the constructor
    was given, can't.
    """

    _config: SystemConfig
    _spec: EnvSpec | None = None

    @property
    def config(self) -> SystemConfig:
        """The configuration at present."""
        return self._config

    def configure(self, **fields: Any) -> None:
        """Change requirements and the reward, from the next decision on.

        The drops stay, prepared ones included. Observations show the new requirements from the next `reset` or `step` on; so change them
        between episodes if an agent is to decide by them.

        Args:
            fields: any of `cfisac_env.config.REQUIREMENT_FIELDS`.

        Raises:
            TypeError: another field of the configuration, or none.
            ValueError: a value out of its range.
        """
        check_keywords(f"{type(self).__name__}.configure()", fields, REQUIREMENT_FIELDS)
        self._set_config(self._config.changed(**fields))

    def _set_config(self, config: SystemConfig) -> None:
        """Take the configuration over, with everything that was derived from the one before."""
        raise NotImplementedError

    @property
    def _horizon(self) -> int | None:
        """Steps after which every episode is truncated; None where episodes terminate."""
        return None

    @property
    def spec(self) -> EnvSpec | None:
        """What `gym.make` made the environment from, with the horizon of sequences, in values that JSON can hold."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        if spec is not None:
            limits = [steps for steps in (spec.max_episode_steps, self._horizon) if steps is not None]
            kwargs = {name: _plain(value) for name, value in spec.kwargs.items()}
            spec = dataclasses.replace(spec, kwargs=kwargs, max_episode_steps=min(limits, default=None))
        self._spec = spec


for _name in FIELDS:
    setattr(Configurable, _name, _ConfigField(_name))


def unknown_attribute(instance: Any, name: str) -> AttributeError:
    """An error that suggests the nearest public attribute."""
    public = [known for known in dir(instance) if not known.startswith("_")]
    return AttributeError(f"{type(instance).__name__} has no attribute {name!r}{nearest(name, public)}")


def _fixed(instance: Any, name: str, value: Any) -> AttributeError:
    return AttributeError(
        f"{name} of {type(instance).__name__} is fixed when it is made: make another one with {name}={value!r}. "
        f"What may change is {', '.join(REQUIREMENT_FIELDS)}"
    )


def built(name: str, value: Any) -> Any:
    """A strategy object; a mapping is the description that a specification holds of it.

    Raises:
        ValueError: a mapping that describes none.
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


def _plain(value: Any) -> Any:
    """A value that JSON can hold and that means the same to the constructor; others stay as they are."""
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
        plain = {field.name: _plain(getattr(value, field.name)) for field in fields}
        importable = "<" not in kind.__qualname__ and all(field.init for field in fields)
        if importable and all(isinstance(item, str | int | float | bool | None) for item in plain.values()):
            return {_STRATEGY: f"{kind.__module__}:{kind.__qualname__}", **plain}
    return value
