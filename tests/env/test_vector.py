"""The vector environment is N single environments, seen through Gymnasium's own vector API."""

from __future__ import annotations

import copy
import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import RecordVideo
from numpy.typing import NDArray

from cfisac_env import CfIsacEnv, CfIsacVectorEnv, Decision, Scenario, SystemConfig, actions, sample, shard, vector
from cfisac_env.rendering import MapViewer

ID, MOBILE, N = "CfIsac-v0", "CfIsacMobile-v0", 5
SMALL: dict[str, Any] = {"M": 6, "K": 3}
MODES = (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP)
VARIANTS: dict[str, dict[str, Any]] = {
    "one decision": {},
    "an episode": {"episode_steps": 3},
    "decisions on one drop": {"decisions_per_drop": 3},
    "decisions on each instant": {"episode_steps": 2, "decisions_per_drop": 2, "K": 5, "pilot_length": 2},
    "reused pilots, two targets": {
        "K": 5, "S": 2, "pilot_length": 2, "episode_steps": 2, "rcs_model": "exponential", "pilot_assignment": "random",
    },
    "another preset": {"preset": "precise-sensing", "K": 4, "pilot_length": 3, "pilot_assignment": "greedy"},
    "mobile": {"id": MOBILE, "episode_steps": 6, "switching_energy_j": 2.0, "wake_up_steps": 1, "user_speed_m_s": 90.0},
    "mobile, one instant": {"id": MOBILE, "episode_steps": 1},
    "mobile, reused pilots, two targets": {
        "id": MOBILE, "K": 5, "S": 2, "pilot_length": 2, "episode_steps": 4, "rcs_model": "exponential", "pilot_assignment": "random",
        "velocities": False, "user_speed_m_s": 0.0, "step_s": 0.5, "wake_up_steps": 2,
    },
}  # fmt: skip


def make(num_envs: int = N, id: str = ID, **fields: Any) -> CfIsacVectorEnv:
    envs = gym.make_vec(id, num_envs=num_envs, vectorization_mode="vector_entry_point", **(SMALL | fields))
    assert isinstance(envs, CfIsacVectorEnv)
    return envs


def singles(mode: AutoresetMode, num_envs: int = N, id: str = ID, **fields: Any) -> SyncVectorEnv:
    vector_kwargs = {"autoreset_mode": mode}
    envs = gym.make_vec(
        id, num_envs=num_envs, vectorization_mode="sync", vector_kwargs=vector_kwargs, **(SMALL | fields)
    )
    assert isinstance(envs, SyncVectorEnv)
    return envs


def random_actions(envs: Any, rng: np.random.Generator) -> NDArray[np.float32]:
    action: NDArray[np.float32] = rng.uniform(-1.2, 1.2, envs.action_space.shape).astype(np.float32)
    return action


def assert_same(ours: Any, theirs: Any, where: str = "") -> None:
    """Everything nested in two results: keys, kinds and shapes the same, numbers to 1e-6."""
    assert type(ours) is type(theirs), where
    if isinstance(ours, dict):
        assert set(ours) == set(theirs), where
        for key in ours:
            assert_same(ours[key], theirs[key], f"{where}[{key!r}]")
    elif isinstance(ours, tuple) or (isinstance(ours, np.ndarray) and ours.dtype == object):
        for i, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            assert_same(one, other, f"{where}[{i}]")
    elif isinstance(ours, np.ndarray):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape), where
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-9, err_msg=where)
    else:
        assert ours == theirs, where


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
@pytest.mark.parametrize("variant", list(VARIANTS))
def test_step_for_step_the_same_as_single_environments(variant: str, mode: AutoresetMode) -> None:
    ours, theirs = make(autoreset_mode=mode, **VARIANTS[variant]), singles(mode, **VARIANTS[variant])
    assert ours.single_observation_space == theirs.single_observation_space
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert ours.metadata == theirs.metadata
    assert_same(ours.reset(seed=3), theirs.reset(seed=3))
    rng = np.random.default_rng(0)
    for step in range(16):
        action = random_actions(ours, rng)
        result = ours.step(action)
        assert_same(result, theirs.step(action))
        assert ours.observation_space.contains(result[0])
        if step in (4, 9, 10):  # some in the middle of their episodes, some at the end
            mask = rng.random(N) < 0.5
            mask[step % N] = True
            seed: Any = [None, 7, None, 8, None] if step == 9 else None
            options = [{"reset_mask": mask.copy()} for _ in range(2)]
            assert_same(ours.reset(seed=seed, options=options[0]), theirs.reset(seed=seed, options=options[1]))
    assert ours.np_random_seed == theirs.np_random_seed


@pytest.mark.parametrize(("steps", "decisions"), [(1, 1), (3, 1), (2, 2)])
def test_the_numbers_do_not_depend_on_threads_and_parts(
    steps: int, decisions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields: dict[str, Any] = {"episode_steps": steps, "decisions_per_drop": decisions}
    whole = make(11, threads=1, **fields)
    monkeypatch.setattr(vector, "_SHARD_LINKS", 2 * 6 * 3)
    parts = make(11, threads=3, **fields)
    assert len(whole._shards) == 1
    assert len(parts._shards) == 6
    assert_same(parts.reset(seed=1), whole.reset(seed=1))
    rng = np.random.default_rng(1)
    for step in range(7):
        action = random_actions(whole, rng)
        assert_same(parts.step(action), whole.step(action))
        if step == 3:
            options = {"reset_mask": np.arange(11) % 3 == 0}
            assert_same(parts.reset(options=options), whole.reset(options=options))
    parts.close()
    whole.close()


@pytest.mark.parametrize("seed", [4, [4, 5, 6, 7, 8], np.arange(4, 9)], ids=repr)
def test_a_seed_is_one_for_every_environment(seed: Any) -> None:
    envs = make()
    first, _ = envs.reset(seed=seed)
    assert envs.np_random_seed == (4, 5, 6, 7, 8)
    single, _ = gym.make(ID, **SMALL).reset(seed=6)
    for key, value in single.items():
        np.testing.assert_array_equal(first[key][2], value)
    second, _ = envs.reset()
    assert not np.isclose(second["comm"], first["comm"]).any()


def test_without_a_seed_every_environment_has_its_own() -> None:
    one, other = make(), make()
    both = np.concatenate([one.reset()[0]["ue"], other.reset()[0]["ue"]])
    assert len(np.unique(both.round(6).reshape(2 * N, -1), axis=0)) == 2 * N


@pytest.fixture
def drops() -> Scenario:
    return sample(SystemConfig(6, 3, preset="urban", T=3), np.random.default_rng(10), 4)


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
@pytest.mark.parametrize(("steps", "decisions"), [(1, 1), (3, 1), (2, 2)])
def test_given_drops_are_played_as_single_environments_play_them(
    steps: int, decisions: int, mode: AutoresetMode, drops: Scenario, tmp_path: Path
) -> None:
    path = str(drops.save(tmp_path / "drops.npz"))
    fields: dict[str, Any] = {
        "drops": path,
        "sinr_threshold_db": -1.0,
        "episode_steps": steps,
        "decisions_per_drop": decisions,
    }
    ours, theirs = make(3, autoreset_mode=mode, **fields), singles(mode, 3, **fields)
    rng = np.random.default_rng(2)
    options: list[Any] = [None, {"drop": 2}, {"reset_mask": np.array([True, False, True])}]
    for seed in (None, 1):
        for option in options:
            assert_same(
                ours.reset(seed=seed, options=copy.deepcopy(option)),
                theirs.reset(seed=seed, options=copy.deepcopy(option)),
            )
            for _ in range(6):
                action = random_actions(ours, rng)
                assert_same(ours.step(action), theirs.step(action))


def test_a_step_on_which_every_drop_stays_draws_and_encodes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    envs = make(decisions_per_drop=3)
    before, _ = envs.reset(seed=0)
    states = [generator.bit_generator.state for generator in envs.np_random]
    rng = np.random.default_rng(8)
    with monkeypatch.context() as without:
        without.setattr(shard, "observations", None)
        without.setattr(shard, "build", None)
        for step in range(3):
            action = random_actions(envs, rng)
            after, _, terminations, _, _ = envs.step(action)
            assert terminations.all() == terminations.any() == (step == 2)
            np.testing.assert_array_equal(after["ap"][..., 2], action[..., 0] >= 0)
            for key, value in before.items():
                shown = (..., slice(2)) if key == "ap" else ...
                np.testing.assert_array_equal(after[key][shown], value[shown])
        assert states == [generator.bit_generator.state for generator in envs.np_random]
        with pytest.raises(TypeError):
            envs.step(action)


def test_options_stay_as_they_were_given() -> None:
    envs, mask = make(), np.arange(N) < 2
    envs.reset()
    options = {"reset_mask": mask}
    envs.reset(options=options)
    assert options["reset_mask"] is mask


def test_finished_environments_wait_for_their_reset_when_nothing_resets_them() -> None:
    envs = make(autoreset_mode="Disabled", episode_steps=2)
    assert envs.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    rng = np.random.default_rng(3)
    envs.reset(seed=0)
    envs.step(random_actions(envs, rng))
    envs.reset(options={"reset_mask": np.arange(N) < 3})
    _, _, _, truncations, _ = envs.step(random_actions(envs, rng))
    np.testing.assert_array_equal(truncations, np.arange(N) >= 3)
    with pytest.raises(RuntimeError, match=r"environments \[3, 4\] are over.*reset_mask"):
        envs.step(random_actions(envs, rng))
    envs.reset(options={"reset_mask": truncations})
    _, _, _, truncations, _ = envs.step(random_actions(envs, rng))
    np.testing.assert_array_equal(truncations, np.arange(N) < 3)


def test_the_drops_can_be_seen_and_decisions_scored_without_stepping() -> None:
    envs = make(episode_steps=4)
    observation, _ = envs.reset(seed=5)
    assert envs.scenario.batch_shape == (N,)
    np.testing.assert_allclose(envs.scenario.ue_xy / 250, observation["ue"], rtol=1e-6)
    action = random_actions(envs, np.random.default_rng(0)).clip(-1, 1)
    outcome = envs.evaluate(actions.decode(action, envs.config.max_ap_power_w))
    _, _, _, _, infos = envs.step(action)
    np.testing.assert_allclose(infos["total_power_w"], outcome.total_power)
    np.testing.assert_allclose(infos["crlb_m2"], outcome.crlb)


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
@pytest.mark.parametrize(("steps", "decisions"), [(1, 1), (2, 1), (1, 3)])
def test_writing_into_what_was_returned_changes_nothing(mode: AutoresetMode, steps: int, decisions: int) -> None:
    ours, untouched = (make(autoreset_mode=mode, episode_steps=steps, decisions_per_drop=decisions) for _ in range(2))
    rng = np.random.default_rng(4)
    results: list[Any] = [envs.reset(seed=2) for envs in (ours, untouched)]
    for _ in range(6):
        assert_same(*results)
        spoil(results[0])
        action = random_actions(ours, rng)
        results = [envs.step(action.copy()) for envs in (ours, untouched)]


def spoil(value: Any) -> None:
    if isinstance(value, dict):
        for item in value.values():
            spoil(item)
    elif isinstance(value, tuple) or (isinstance(value, np.ndarray) and value.dtype == object):
        for item in value:
            spoil(item)
    elif isinstance(value, np.ndarray):
        value[...] = 0


@pytest.mark.parametrize(
    "twin", [copy.deepcopy, lambda envs: pickle.loads(pickle.dumps(envs))], ids=["copied", "pickled"]
)
def test_a_copy_made_in_the_middle_goes_on_as_the_original(twin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector, "_SHARD_LINKS", 2 * 6 * 3)
    envs = make(episode_steps=3, decisions_per_drop=2, threads=2)
    rng = np.random.default_rng(5)
    envs.reset(seed=0)
    envs.step(random_actions(envs, rng))
    second = twin(envs)
    for _ in range(5):
        action = random_actions(envs, rng)
        assert_same(second.step(action), envs.step(action))


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "3"])
def test_a_number_of_environments_that_is_none_is_refused(count: Any) -> None:
    with pytest.raises(ValueError, match=r"num_envs must be a whole number of 1 or more, got"):
        CfIsacVectorEnv(count)
    with pytest.raises(ValueError, match=r"threads must be a whole number of 1 or more, got"):
        CfIsacVectorEnv(2, threads=count)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"max_power_w": 1.0}, TypeError, "did you mean 'max_ap_power_w'"),
        ({"preset": "rural"}, ValueError, "valid presets"),
        ({"M": 0}, ValueError, "M must be"),
        ({"episode_steps": 0}, ValueError, "episode_steps must be"),
        ({"decisions_per_drop": 0}, ValueError, "decisions_per_drop must be"),
        ({"render_mode": "ansi"}, ValueError, "render_mode must be"),
        ({"drops": "none.npz"}, FileNotFoundError, "none.npz"),
        ({"drops": 3}, TypeError, "path of a drops file or a Scenario"),
    ],
    ids=str,
)
def test_what_a_single_environment_refuses_is_refused(fields: Any, error: type[Exception], message: str) -> None:
    for build in (lambda: CfIsacEnv(**fields), lambda: CfIsacVectorEnv(2, **fields)):
        with pytest.raises(error, match=message):
            build()


def test_batches_have_no_window() -> None:
    with pytest.raises(ValueError, match=r"render_mode='human': batches draw \"rgb_array\" alone; use gym.make"):
        CfIsacVectorEnv(2, render_mode="human")


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_every_environment_of_a_batch_draws_its_own_decision(backend: str) -> None:
    envs = gym.make_vec("CfIsac-v0", num_envs=3, M=6, K=3, render_mode="rgb_array", backend=backend)
    with pytest.raises(RuntimeError, match="reset"):
        envs.render()
    envs.reset(seed=1_000_000)
    before: Any = envs.render()
    envs.step(envs.action_space.sample())
    after: Any = envs.render()
    envs.step(envs.action_space.sample())  # next-step autoreset: new drops, undecided
    anew: Any = envs.render()
    for frames in (before, after, anew):
        assert [(frame.shape, frame.dtype) for frame in frames] == [((512, 480, 3), np.uint8)] * 3
    seen = [frame.tobytes() for frames in (before, after, anew) for frame in frames]
    assert len(set(seen)) == 9
    viewer = MapViewer()
    for i, frame in enumerate(before):
        env = CfIsacEnv(M=6, K=3)
        env.reset(seed=1_000_000 + i)
        np.testing.assert_array_equal(frame, viewer.frame(env.scenario, None, None))


def test_episodes_of_a_batch_are_recorded_as_a_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "moviepy", ModuleType("moviepy"))  # only needed to write the file
    envs = gym.make_vec(
        "CfIsacMobile-v0", num_envs=4, M=6, K=3, episode_steps=3, wake_up_steps=1, render_mode="rgb_array"
    )
    filmed = RecordVideo(envs, str(tmp_path / "videos"), step_trigger=lambda step: step == 0)
    filmed.reset(seed=1_000_000)
    for _ in range(2):
        filmed.step(filmed.action_space.sample())
    assert {frame.shape for frame in filmed.recorded_frames} == {(2 * 512, 2 * 480, 3)}
    assert len({frame.tobytes() for frame in filmed.recorded_frames}) == len(filmed.recorded_frames) >= 2
    filmed.recorded_frames.clear()


def test_environments_say_when_they_have_to_be_reset() -> None:
    envs = make()
    decision = Decision(np.ones((N, 6), bool), np.zeros((N, 6, 3)))
    for use in (lambda: envs.step(envs.action_space.sample()), lambda: envs.scenario, lambda: envs.evaluate(decision)):
        with pytest.raises(RuntimeError, match="reset"):
            use()
    with pytest.raises(RuntimeError, match=r"environments \[1, 2, 3, 4\] have never been reset"):
        envs.reset(options={"reset_mask": np.arange(N) == 0})


def test_actions_that_are_none_are_refused_and_change_nothing() -> None:
    envs, untouched = make(episode_steps=3), make(episode_steps=3)
    assert_same(envs.reset(seed=0), untouched.reset(seed=0))
    action = random_actions(envs, np.random.default_rng(6))
    bad = action.copy()
    bad[1, 4, 2] = bad[3, 0, 0] = np.nan
    with pytest.raises(ValueError, match=r"NaN \(environments \[1, 3\]\)"):
        envs.step(bad)
    with pytest.raises(ValueError, match=r"shape \(5, 6, 4\).*got \(4, 6, 4\)"):
        envs.step(action[:4])
    with pytest.raises(ValueError, match=r"shape \(5, 6, 4\).*got \(6, 4\)"):
        envs.step(action[0])
    infinite = action.copy()
    infinite[0, 0, 0], infinite[0, 1, 0] = np.inf, -np.inf
    assert_same(envs.step(infinite), untouched.step(infinite.clip(-1, 1)))


@pytest.mark.parametrize(
    "seed", [[1, 2], "12345", 1.5, True, -1, [1.5] * N, ["1"] * N, [True] * N, [3, 4, -5, 6, 7], np.ones(N)], ids=repr
)
def test_seeds_that_are_none_are_refused(seed: Any) -> None:
    with pytest.raises(ValueError, match=r"a list of 5 ints or Nones"):
        make().reset(seed=seed)


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        ([True] * N, TypeError, "NumPy array of bool, got list"),
        (np.ones(N), TypeError, "NumPy array of bool, got ndarray of float64"),
        (np.ones(4, bool), ValueError, r"shape \(5,\).*got shape \(4,\)"),
        (np.zeros(N, bool), ValueError, "at least one True"),
    ],
    ids=["a list", "numbers", "too short", "nobody"],
)
def test_masks_that_are_none_are_refused(mask: Any, error: type[Exception], message: str) -> None:
    envs = make()
    envs.reset()
    with pytest.raises(error, match=message):
        envs.reset(options={"reset_mask": mask})


@pytest.mark.parametrize(
    ("drop", "message"),
    [
        (4, "whole number from 0 to 3"),
        ([0, -1], "whole number from 0 to 3"),
        ([1], "one index, or a list of 2"),
        ("12", "'12'"),
    ],
)
def test_a_drop_that_is_not_there_is_refused(drop: Any, message: str, drops: Scenario) -> None:
    with pytest.raises(ValueError, match=message):
        CfIsacVectorEnv(2, drops=drops).reset(options={"drop": drop})


def test_every_environment_can_be_given_its_own_drop(drops: Scenario) -> None:
    envs = CfIsacVectorEnv(3, drops=drops)
    envs.reset(options={"drop": [3, 0, 2]})
    np.testing.assert_array_equal(envs.scenario.gain, drops.gain[[3, 0, 2]])
    envs.reset(options={"drop": np.array([1, 1, 1]), "reset_mask": np.array([False, True, True])})
    np.testing.assert_array_equal(envs.scenario.gain, drops.gain[[3, 1, 1]])


def tensors_as_arrays(value: Any) -> Any:
    """A result of the torch back end with NumPy arrays in place of tensors, of which everything has to consist."""
    if isinstance(value, torch.Tensor):
        return value.numpy()
    if isinstance(value, dict):
        return {key: tensors_as_arrays(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(map(tensors_as_arrays, value))
    assert isinstance(value, np.ndarray)
    assert value.dtype == object
    result = np.full(len(value), None, dtype=object)
    for i, item in enumerate(value):
        result[i] = None if item is None else tensors_as_arrays(item)
    return result


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
@pytest.mark.parametrize("variant", list(VARIANTS))
def test_torch_gives_in_tensors_what_numpy_gives(variant: str, mode: AutoresetMode) -> None:
    fields = VARIANTS[variant] | {"autoreset_mode": mode}
    ours, theirs = make(backend="torch", device="cpu", **fields), make(**fields)
    assert_same(tensors_as_arrays(ours.reset(seed=3)), theirs.reset(seed=3))
    rng = np.random.default_rng(0)
    for step in range(8):
        action = random_actions(ours, rng)
        assert_same(tensors_as_arrays(ours.step(torch.tensor(action))), theirs.step(action))
        if step == 4:
            options = {"reset_mask": rng.random(N) < 0.5}
            assert_same(tensors_as_arrays(ours.reset(options=options)), theirs.reset(options=options))
    ours.reset()
    bad = torch.tensor(action)
    bad[2, 0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"NaN \(environments \[2\]\)"):
        ours.step(bad)


def test_torch_plays_given_drops(drops: Scenario) -> None:
    ours, theirs = (make(drops=drops, backend=backend) for backend in ("torch", "numpy"))
    assert_same(tensors_as_arrays(ours.reset(options={"drop": 3})), theirs.reset(options={"drop": 3}))
    assert isinstance(ours.scenario.gain, torch.Tensor)


def test_a_device_that_is_not_there_is_refused_with_those_that_are() -> None:
    for device in ("cuda:99", "nonsense"):
        with pytest.raises(ValueError, match=f"no device '{device}'; this machine has cpu"):
            make(backend="torch", device=device)
    with pytest.raises(ValueError, match=r"give backend='torch'"):
        make(device="cuda")
    with pytest.raises(ValueError, match="'numpy' or 'torch', got 'jax'"):
        make(backend="jax")
