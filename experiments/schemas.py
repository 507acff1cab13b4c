"""Schemas of stored results (JSON Schema 2020-12), which writers and readers check."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cfisac_env import json_files


def _object(
    required: Mapping[str, Any], optional: Mapping[str, Any] | None = None, more: bool = False
) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": more,
    }


def _list(items: Any, **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": items, **more}


def _map(values: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": values}


_WATTS: Any = {"type": "number", "minimum": 0, "maximum": 1e12}
_MAYBE: Any = {"type": ["number", "null"]}
_SEED: Any = {"type": "integer", "minimum": 0}
_SECONDS: Any = {"type": "number", "minimum": 0}
_FLAG: Any = {"type": "boolean"}
_TEXT: Any = {"type": "string"}
_ARRAY: Any = {"type": "array"}  # of numbers, which the store checks together

_DECISION = _object(
    {
        "total_power_w": _WATTS, "transmit_power_w": _WATTS, "feasible": _FLAG,
        "violation": {"type": ["number", "null"], "minimum": 0},  # null: without bound
        "seconds": _SECONDS, "active": _ARRAY, "ap_power_w": _ARRAY, "sinr_db": _ARRAY, "crlb_m2": _ARRAY,
    },
    {"lower_bound_w": _WATTS},
)  # fmt: skip

_SELECTION_DROP = _object(
    {
        "case": _TEXT, "seed": _SEED, "infeasible": _FLAG, "proven": _FLAG, "gap": _MAYBE, "total_w": _MAYBE, "lower_bound_w": _MAYBE,
        "active_aps": _SEED, "nodes": _SEED, "exact_s": _WATTS, "local_w": _MAYBE, "local_s": _WATTS, "greedy_w": _MAYBE,
        "greedy_s": _WATTS,
    }
)  # fmt: skip

_AGREEMENT = _object(
    {
        "seed": _SEED, "preset": _TEXT, **{name: {"type": "integer", "minimum": 1} for name in ("M", "K", "S", "active_aps")},
        "fast_status": {**_TEXT, "minLength": 1}, "reference_status": {**_TEXT, "minLength": 1},
        **dict.fromkeys(("fast_w", "reference_w", "difference", "fast_violation", "reference_violation", "fast_gap"), _MAYBE),
    }
)  # fmt: skip

EPISODE_VALUES = (
    "energy_j", "transmit_j", "circuit_j", "switching_j", "switched_on", "active_aps", "served", "step_ms", "lower_bound_j",
)  # fmt: skip
"""Numbers of an episode, none of which is negative."""

_EVALUATION_VALUES: Any = {
    "anyOf": [
        _object({"infeasible": _FLAG, "lower_bound_w": {**_WATTS, "type": ["number", "null"]}}),
        _object(
            {
                "total_power_w": _WATTS, "transmit_power_w": _WATTS, "active_aps": _SEED, "feasible": _FLAG,
                "violation": {"type": ["number", "null"], "minimum": 0}, "seconds": _SECONDS,
            },
            {"lower_bound_w": _WATTS},
        ),
    ]
}  # fmt: skip

_HEADER = _object({"format": {"type": "integer"}, "cfisac": _TEXT}, more=True)


def _line(values: Any) -> dict[str, Any]:
    """Line of a `journal.Store`."""
    return _object({"policy": _TEXT, "seed": _SEED, "values": values})


SCHEMAS: Mapping[str, Any] = {
    "decisions header": _object(
        {"format": {"type": "integer"}, "cfisac": _TEXT, "config": {"type": "object"}},
        {"time_limit_s": {"type": "number", "exclusiveMinimum": 0}},
        more=True,
    ),
    "decisions line": _object(
        {"seed": _SEED, "decisions": _map(_DECISION)}, {"infeasible": _FLAG, "lower_bound_w": {**_WATTS, "type": ["number", "null"]}}
    ),
    "times": _object(
        {"format": {"type": "integer"}, "cfisac": _TEXT, "seconds": _map(_map(_list(_SECONDS)))}, more=True
    ),
    "evaluation header": _object({"format": {"type": "integer"}, "cfisac": _TEXT, "config": {"type": "object"}}, more=True),
    "evaluation line": _line(_EVALUATION_VALUES),
    "agreement header": _HEADER,
    "agreement line": _line(_AGREEMENT),
    "selection header": _HEADER,
    "selection line": _line(_SELECTION_DROP),
    "episodes header": _object({"format": {"type": "integer"}, "cfisac": _TEXT, "settings": {"type": "object"}}, more=True),
    "episodes line": _line(_object({}, {**dict.fromkeys(EPISODE_VALUES, _WATTS), "beyond": _list(_SEED)})),
    "benchmark reference": _object(
        {
            "format": {"const": 1}, "tiers": _map(_object(dict.fromkeys(("rule_w", "best_w", "bound_w"), _list(_MAYBE)))),
            "episodes": _map(
                _object(
                    {"seeds": _list(_SEED, minItems=1)}
                    | dict.fromkeys(("rule_j", "rule_served", "best_j", "bound_j"), _list(_WATTS, minItems=1))
                )
            ),
        },
        more=True,
    ),
    "benchmark entry": _object(
        {
            "format": {"const": 1}, "cfisac": _TEXT, "name": {**_TEXT, "minLength": 1}, "policy": _list(_TEXT, minItems=1),
            "training": {
                "anyOf": [
                    {"type": "null"},
                    _object(
                        {
                            "seeds": _list(_SEED, minItems=1), "steps": {"type": "integer", "minimum": 1},
                            "core_minutes": {"type": ["number", "null"], "exclusiveMinimum": 0},
                        }
                    ),
                ]
            },
            "tiers": _map(
                _object(
                    {
                        "runs": _list(
                            _object({"total_power_w": _list(_MAYBE), "feasible": _list(_FLAG), "milliseconds": _MAYBE}),
                            minItems=1,
                        )
                    }
                )
            ),
        },
        {
            "knows": {**_TEXT, "minLength": 1},
            "episodes": _map(
                _object(
                    {
                        "runs": _list(
                            _object({"energy_j": _list(_WATTS), "served": _list(_WATTS), "milliseconds": _MAYBE}),
                            minItems=1,
                        )
                    }
                )
            ),
        },
        more=True,
    ),
}  # fmt: skip
"""Schemas by name."""


def check(content: Any, name: str, where: Path | str) -> None:
    """Refuse parsed JSON that violates a schema, with the file and line `where` in the message."""
    json_files.check(content, SCHEMAS[name], where)
