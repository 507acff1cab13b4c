"""Results of the shards of a vector environment in Gymnasium's layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cfisac_env import physics
from cfisac_env.backend import Backend
from cfisac_env.shard import Rows, Shard
from cfisac_env.types import Array

Results = dict[str, Any]


def scored(shards: Sequence[Shard], backend: Backend, played: Rows) -> tuple[Array, Results]:
    """Return rewards and infos; where no decision was played, rewards are zero and infos undefined."""
    results = [shard.scored for shard in shards]
    known = next((one for one in results if one is not None), None)
    if known is None:
        return backend.zeros((len(played),)), {}
    if len(results) > 1:
        spans = [shard.span for shard in shards]
        rows = [_blank(known, s.stop - s.start) if one is None else one for one, s in zip(results, spans, strict=True)]
        rewards, scores = _stacked(backend.xp, rows)
    else:
        rewards, scores = known
    if not played.all():
        rewards = backend.xp.where(backend.array(played), rewards, 0.0)
    return rewards, scores


def infos(
    shards: Sequence[Shard], backend: Backend, scores: Results, played: Rows, ended: Rows, same_step: bool
) -> Results:
    """Return the infos of a step from those of the shards; with `same_step`, those of ended episodes are final."""
    if not same_step or not ended.any():
        return masked(backend, scores, played) if played.any() else {}
    final: Any = np.full(len(played), None, dtype=object)
    for shard in shards:
        if shard.final is not None:
            each: list[dict[str, Array]] = [{} for _ in range(int(shard.ended.sum()))]
            for name in sorted(shard.final):  # in the order of the space
                for entries, row in zip(each, shard.final[name], strict=True):
                    entries[name] = row
            final[shard.span][shard.ended] = each
    going = played & ~ended
    return {
        **(masked(backend, scores, going) if going.any() else {}),
        "final_obs": final,
        "_final_obs": _mask(backend, ended),
        "final_info": masked(backend, scores, ended),
        "_final_info": _mask(backend, ended),
    }


def masked(backend: Backend, results: Mapping[str, Any], rows: Rows) -> Results:
    """Convert infos to Gymnasium's layout, with masks of the valid rows and zeros elsewhere."""
    chosen = None if rows.all() else backend.array(rows)

    def laid_out(values: Mapping[str, Any]) -> Results:
        result: Results = {}
        for name, value in values.items():
            if isinstance(value, dict):
                result[name] = laid_out(value)
            elif chosen is None:
                result[name] = value
            else:
                result[name] = backend.xp.zeros_like(value)
                result[name][chosen] = value[chosen]
            result[f"_{name}"] = _mask(backend, rows)
        return result

    return laid_out(results)


def _mask(backend: Backend, rows: Rows) -> Array:
    mask = rows.copy()
    return mask if backend.name == "numpy" else backend.array(mask)


def _stacked(xp: Any, results: Sequence[Any]) -> Any:
    """Concatenate the results of several shards."""
    first = results[0]
    if isinstance(first, tuple):
        return tuple(_stacked(xp, entries) for entries in zip(*results, strict=True))
    if isinstance(first, dict):
        return {name: _stacked(xp, [one[name] for one in results]) for name in first}
    return xp.concat(results)


def _blank(results: Any, n: int) -> Any:
    """Build zeros with the structure of the results, for n environments."""
    if isinstance(results, tuple):
        return tuple(_blank(entry, n) for entry in results)
    if isinstance(results, dict):
        return {name: _blank(entry, n) for name, entry in results.items()}
    xp = physics.namespace(results)
    return xp.zeros_like(results[:1].repeat(n, 0) if xp is np else results[:1].expand(n, *results.shape[1:]))
