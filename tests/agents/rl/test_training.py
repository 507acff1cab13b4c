"""Training runs: learning, exact resumption, and errors on bad input."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

import cfisac_env
from agents import tensorfile
from agents.rl import building, loading, parameters, storage, training
from agents.rl.parameters import ALGORITHMS, hyper_parameters
from agents.rl.run import Run
from agents.rl.training_envs import training_environments
from cfisac_env import SystemConfig, files, seeds
from experiments.cli import main

torch.set_num_threads(1)

CONFIG = SystemConfig(8, 2, crlb_threshold_m2=20.0)
BRIEF: dict[str, dict[str, Any]] = {
    name: {"steps": 96, "envs": 4, "batch_size": 16, "validate_every": 48, "checkpoint_every": 48}
    for name in ALGORITHMS
}
for name in ("ddpg-paper", "td3", "sac"):
    BRIEF[name] |= {"warm_up": 24, "gradient_steps": 2, "buffer_size": 200}
BRIEF["ddpg"] |= {"decisions": 6, "gradient_steps": 2, "policy_delay": 1, "actor_from": 1, "buffer_size": 60}
BRIEF["grpo"] |= {"decisions": 4}
del BRIEF["grpo"]["batch_size"]
BRIEF["ppo"] |= {"rollout": 12, "epochs": 2}


def run_of(algorithm: str, seed: int = 1, drops: int = 2, **given: Any) -> Run:
    parameters = hyper_parameters(algorithm, **(BRIEF[algorithm] | given))
    return Run(algorithm, CONFIG, parameters, seed, validation_drops=drops)


@pytest.mark.parametrize(("algorithm", "saving"), [*((name, False) for name in ALGORITHMS), ("ddpg-paper", True)])
def test_a_killed_and_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(
    algorithm: str, saving: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = {}
    write = storage.write

    def keep(path: Path, run: Run, policy: Any, card: dict[str, Any]) -> Path:
        final[path.parent.name] = {name: value.clone() for name, value in policy.state_dict().items()}
        return write(path, run, policy, card)

    monkeypatch.setattr(storage, "write", keep)
    monkeypatch.setattr(
        training.Progress, "best", property(lambda self: -np.inf, lambda self, value: None), raising=False
    )
    training.train(run_of(algorithm), tmp_path / "whole")

    def kill(steps: int, text: str) -> None:
        if not saving and steps >= (48 if algorithm == "ppo" else 72):
            raise KeyboardInterrupt

    save_file = tensorfile.save_file  # type: ignore[attr-defined]

    def kill_in_the_second_checkpoint(tensors: Any, path: Path, metadata: Any) -> None:
        save_file(tensors, path, metadata)
        if "checkpoint-96" in path.name:
            raise KeyboardInterrupt

    if saving:
        monkeypatch.setattr(tensorfile, "save_file", kill_in_the_second_checkpoint)
    with pytest.raises(KeyboardInterrupt):
        training.train(run_of(algorithm), tmp_path / "killed", step=kill)
    monkeypatch.setattr(tensorfile, "save_file", save_file)
    assert [path.name for path in (tmp_path / "killed").glob("*checkpoint*")] == ["checkpoint-48.safetensors"]
    training.train(run_of(algorithm), tmp_path / "killed")
    assert final["whole"].keys() == final["killed"].keys()
    assert all(torch.equal(final["whole"][name], final["killed"][name]) for name in final["whole"])
    curves = [json.loads((tmp_path / name / training.CURVE).read_text())["curve"] for name in ("whole", "killed")]
    for one, other in zip(*curves, strict=True):
        assert {k: v for k, v in one.items() if k != "seconds"} == {k: v for k, v in other.items() if k != "seconds"}


def test_ddpg_paper_has_the_printed_networks_on_standardised_features() -> None:
    run = run_of("ddpg-paper")
    venv = training_environments(run)
    model: Any = building.build(run, venv)
    observation: Any = venv.reset()
    # ap, comm, radar, requirement, sensing, sr, target, ue
    inputs = 8 * 3 + 8 * 2 * 2 + 8 * 2 + 4 + 8 * 3 + 2 * 2 + 2 + 2 * 2
    outputs = 8 * 3

    def layers(network: Any) -> list[Any]:
        return [
            tuple(layer.weight.shape) if isinstance(layer, torch.nn.Linear) else type(layer).__name__
            for layer in network
            if not isinstance(layer, torch.nn.Flatten)
        ]

    assert layers(model.actor.mu) == [(128, inputs), "Sigmoid", (64, 128), "Sigmoid", (outputs, 64), "Tanh"]
    assert len(model.critic.q_networks) == 2
    for network in model.critic.q_networks:
        assert layers(network) == [(64, inputs + outputs), "Sigmoid", (128, 64), "Sigmoid", (1, 128)]
    for part in (model.actor, model.critic, model.actor_target, model.critic_target):
        features = part.features_extractor({key: torch.as_tensor(value) for key, value in observation.items()})
        assert features.shape == (4, inputs)
        assert 1.0 < float(features.abs().max()) < 8.0


@pytest.mark.parametrize("algorithm", ["td3", "sac", "ppo"])
def test_the_stock_algorithms_have_the_networks_of_stable_baselines3(algorithm: str) -> None:
    from stable_baselines3 import PPO, SAC, TD3

    stock: Any = {"td3": TD3, "sac": SAC, "ppo": PPO}[algorithm]
    env = gym.make("CfIsac-v0", M=8, K=2)
    expected = stock("MultiInputPolicy", env, **({} if algorithm == "ppo" else {"buffer_size": 1})).policy
    made = building.empty_policy(run_of(algorithm))

    def shapes(policy: Any) -> dict[str, Any]:
        weights = policy.state_dict().items()
        return {name: value.shape for name, value in weights if "features_extractor" not in name}

    assert shapes(made) == shapes(expected)


def test_training_environments_have_the_margin_the_penalty_and_the_reward_scale_of_the_run() -> None:
    venv = training_environments(run_of("ddpg-paper", margin_db=0.5, penalty=7.0, reward_scale=0.25))
    config = venv.get_attr("unwrapped")[0].config
    assert config.sinr_threshold_db == pytest.approx(CONFIG.sinr_threshold_db + 0.5)
    assert config.crlb_threshold_m2 == pytest.approx(20.0 / 1.1220184543)
    assert (config.sinr_penalty, config.crlb_penalty) == (7.0, 7.0)
    venv.reset()
    nothing = np.full((4, 8, 3), -1.0, np.float32)
    np.testing.assert_allclose(venv.step(nothing)[1], -0.25 * 3 * 7.0)


def test_an_agent_decides_alike_on_single_observations_and_batches(tmp_path: Path) -> None:
    training.train(run_of("ddpg-paper"), tmp_path)
    learned = loading.load("ddpg-paper", M=8, K=2, weights=tmp_path / training.BEST)
    env = gym.make("CfIsac-v0", M=8, K=2, crlb_threshold_m2=20.0)
    drops = [env.reset(seed=seed)[0] for seed in range(3)]
    batch = {key: np.stack([drop[key] for drop in drops]) for key in drops[0]}
    together, _ = learned.predict(batch)
    assert together.shape == (3, 8, 3)
    for drop, action in zip(drops, together, strict=True):
        np.testing.assert_allclose(learned.predict(drop)[0], action, atol=1e-6)
    evaluate_policy(learned, Monitor(env), n_eval_episodes=3, warn=False)
    events = list((tmp_path / "tensorboard").glob("events*"))
    assert events
    assert events[0].stat().st_size > 500


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    training.train(run_of("ddpg-paper", steps=32, validate_every=32, drops=1), folder)
    return folder / training.BEST


@pytest.mark.parametrize(
    ("algorithm", "options", "message"),
    [
        ("ddpg-paper", {"M": 9}, "holds an agent for M=8, not M=9"),
        ("ddpg-paper", {"K": 3}, "holds an agent for K=2, not K=3"),
        ("td3", {}, "holds a ddpg-paper agent, not td3"),
    ],
)
def test_an_agent_of_another_size_or_algorithm_is_refused(
    algorithm: str, options: Any, message: str, weights: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        loading.load(algorithm, weights=weights, **options)


def test_an_agent_of_another_version_or_a_damaged_one_is_refused(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileNotFoundError, match="no file"):
        loading.load("ddpg-paper", weights=tmp_path / "none.safetensors")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="truncated or not a safetensors file"):
        loading.load("ddpg-paper", weights=broken)
    broken.write_bytes(b"hello")
    with pytest.raises(ValueError, match="truncated or not a safetensors file"):
        loading.load("ddpg-paper", weights=broken)
    with pytest.raises(
        ValueError, match="no ddpg-paper agent is shipped for M=3, K=1; there are agents for 30x6, 30x10, 50x10, 50x20"
    ):
        loading.load("ddpg-paper", M=3, K=1)
    with safe_open(weights, framework="pt") as file:
        header = file.metadata()
    run = json.loads(header["run"])
    broken.write_bytes(save(load_file(weights), {**header, "run": json.dumps({**run, "algorithm": "ddpg"})}))
    with pytest.raises(
        ValueError, match=r"broken\.safetensors .* in the format from before `ddpg` .* train ddpg-paper`"
    ):
        loading.load("ddpg", weights=broken)
    for damage in (
        {"run": json.dumps({name: value for name, value in run.items() if name != "policy"})},
        {"run": json.dumps({name: value for name, value in run.items() if name != "version"})},
        {"run": json.dumps({**run, "seed": 1000})},
        {"run": json.dumps({**run, "network": None})},
        {"run": "{"},
        {"card": "{"},
    ):
        broken.write_bytes(save(load_file(weights), {**header, **damage}))
        with pytest.raises(ValueError, match=r"broken\.safetensors"):
            loading.load("ddpg-paper", weights=broken)
    broken.write_bytes(save({name: value * torch.nan for name, value in load_file(weights).items()}, header))
    with pytest.raises(ValueError, match=r"the weights .* aren't finite"):
        loading.load("ddpg-paper", weights=broken)
    with pytest.raises(FileNotFoundError, match=r"no file .* \(it is a folder\)"):
        loading.load("ddpg-paper", weights=weights.parent)
    monkeypatch.setattr(cfisac_env, "READABLE", ("0.9",))
    with pytest.raises(
        ValueError, match=r"trained with cfisac [\d.]+, this is [\d.]+; observations or physics may differ"
    ):
        loading.load("ddpg-paper", weights=weights)


def test_observations_of_another_size_are_refused(weights: Path) -> None:
    learned = loading.load("ddpg-paper", weights=weights)
    observation, _ = gym.make("CfIsac-v0", M=9, K=2).reset(seed=0)
    with pytest.raises(ValueError, match=r"trained for 'ap' of shape .8, 3., got .9, 3."):
        learned.predict(observation)
    with pytest.raises(ValueError, match="lacks sensing, requirement"):
        learned.predict({"comm": observation["comm"]})
    with pytest.raises(ValueError, match="Dict observation"):
        learned.predict(np.zeros(3))
    small, _ = gym.make("CfIsac-v0", M=8, K=2).reset(seed=0)
    small["comm"][0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="'comm' holds 1 values that aren't finite"):
        learned.predict(small)
    small, _ = gym.make("CfIsac-v0", M=8, K=2).reset(seed=0)
    uneven = {key: np.stack([value] * (3 if key == "ap" else 2)) for key, value in small.items()}
    with pytest.raises(ValueError, match=r"batches of different sizes: \{'ap': \(3,\), 'comm': \(2,\)"):
        learned.predict(uneven)


def test_only_one_process_trains_in_a_folder(tmp_path: Path) -> None:
    with (
        files.locked(tmp_path),
        pytest.raises(BlockingIOError, match=rf"another process is writing to .*: process {os.getpid()} on"),
    ):
        training.train(run_of("ddpg-paper"), tmp_path)


def test_a_folder_with_another_run_is_refused_by_what_differs(weights: Path) -> None:
    with pytest.raises(ValueError, match=r"differs in parameters\.steps \(there 32, now 96\)"):
        training.train(run_of("ddpg-paper", validate_every=32), weights.parent)
    with pytest.raises(ValueError, match=r"algorithm \(there 'ddpg-paper', now 'td3'\)"):
        training.train(run_of("td3"), weights.parent)
    with pytest.raises(ValueError, match=r"validation_drops \(there 1, now 2\)"):
        training.train(run_of("ddpg-paper", steps=32, validate_every=32), weights.parent)
    with pytest.raises(FileExistsError, match="holds a run already"):
        training.train(run_of("ddpg-paper", steps=32, validate_every=32), weights.parent, resume=False)
    with pytest.raises(NotADirectoryError, match="is not a folder; choose another --out"):
        training.train(run_of("ddpg-paper"), weights / "run")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("run.json", "{", r"run\.json is damaged: .*remove this folder to start over"),
        ("run.json", "[]", r"run\.json is damaged: \[\] is not of type 'object'"),
        ("run.json", None, r"holds oracle\.json and a checkpoint of a run, but no run\.json"),
        ("run.json", "[" * 50_000, r"run\.json is damaged"),
        ("oracle.json", "{}", r"oracle\.json is damaged.*: 'total_power_w' is a required property"),
        ("oracle.json", '{"total_power_w": ["1"]}', r"oracle\.json is damaged.*: '1' is not of type"),
        ("oracle.json", '{"total_power_w": [-1]}', r"oracle\.json is damaged.*: -1"),
        ("oracle.json", '{"total_power_w": [1, 2]}', r"oracle\.json holds 2 drops, the run has 1"),
        (
            "checkpoint-32.safetensors",
            "",
            r"checkpoint-32\.safetensors cannot be read .*; remove the checkpoints in .* to start over",
        ),
    ],
)
def test_a_folder_with_a_damaged_run_is_refused(
    name: str, content: str | None, message: str, weights: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(weights.parent, tmp_path / "run")
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        training.train(run_of("ddpg-paper", steps=32, validate_every=32, drops=1), folder)


def test_what_cannot_be_trained_is_refused_before_the_folder_is_taken(tmp_path: Path) -> None:
    for device in ("cudda", "meta", "gpu", "cuda:7", ""):
        with pytest.raises(ValueError, match=f"torch cannot compute on the device '{device}'"):
            training.train(run_of("ddpg-paper"), tmp_path, device=device)
    for drops in (-1, 0, 100_001, 10**30):
        with pytest.raises(ValueError, match=f"validation drops must be from 1 to 100000, got {drops}"):
            training.train(run_of("ddpg-paper", drops=drops), tmp_path)
    hopeless = SystemConfig(8, 2, crlb_threshold_m2=1e-9)
    with pytest.raises(ValueError, match="local-search serves none of the 2 validation drops"):
        training.train(Run("ddpg-paper", hopeless, run_of("ddpg-paper").parameters, validation_drops=2), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("algorithm", ["ddpg-paper", "ppo"])
@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")
def test_divergence_is_reported(algorithm: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"training diverged: after .* steps the weights aren't finite"):
        training.train(run_of(algorithm, reward_scale=1e38, penalty=1e3, drops=1), tmp_path)


def test_unknown_hyper_parameters_are_refused_with_the_nearest() -> None:
    with pytest.raises(
        TypeError, match=r"ddpg-paper has no hyper-parameter 'learning_rat'.*did you mean 'learning_rate'"
    ):
        hyper_parameters("ddpg-paper", learning_rat=1.0)
    for name in ("penalty", "margin_db", "reward_scale"):  # of rewards in watts
        with pytest.raises(TypeError, match=f"ddpg has no hyper-parameter '{name}'"):
            hyper_parameters("ddpg", **{name: 1.0})
    with pytest.raises(TypeError, match="ppo has no hyper-parameter 'tau'"):
        hyper_parameters("ppo", tau=0.1)
    with pytest.raises(ValueError, match="did you mean 'ddpg'"):
        hyper_parameters("dpg")
    with pytest.raises(ValueError, match="did you mean 'ddpg'"):
        Run("dpg", CONFIG, hyper_parameters("ddpg-paper"))
    with pytest.raises(TypeError, match="ppo takes OnPolicy hyper-parameters, got OffPolicy"):
        Run("ppo", CONFIG, hyper_parameters("ddpg-paper"))
    with pytest.raises(ValueError, match="seed must be a whole number from 0 to 399"):
        run_of("ddpg-paper", seed=400)


@pytest.mark.parametrize(
    ("algorithm", "given", "message"),
    [
        ("ddpg-paper", {"steps": -1}, "steps must be a whole number above 0, got -1"),
        ("ddpg-paper", {"batch_size": 1.5}, "batch_size must be a whole number above 0, got 1.5"),
        ("ddpg-paper", {"steps": "96"}, "steps must be a whole number above 0, got '96'"),
        ("ddpg-paper", {"envs": True}, "envs must be a whole number above 0, at most 1000, got True"),
        ("ddpg-paper", {"envs": 1001}, "envs must be a whole number above 0, at most 1000, got 1001"),
        ("ddpg-paper", {"learning_rate": np.nan}, "learning_rate must be a number above 0, at most 1, got nan"),
        ("ddpg-paper", {"reward_scale": np.inf}, "reward_scale must be a number above 0, got inf"),
        ("ddpg-paper", {"noise_std": np.nan}, "noise_std must be a number of 0 or more, got nan"),
        ("ddpg-paper", {"tau": 2.0}, "tau must be a number above 0, at most 1, got 2.0"),
        (
            "ddpg-paper",
            {"warm_up": 93},
            "nothing would be learned in 96 steps of 4 envs when warm_up is 93: raise steps",
        ),
        ("ddpg-paper", {"steps": 3, "warm_up": 0}, "nothing would be learned in 3 steps of 4 envs"),
        ("ddpg-paper", {"batch_size": 201}, "batch_size must be at most the 200 transitions of buffer_size, got 201"),
        ("ppo", {"gamma": 1.5}, "gamma must be a number above 0, at most 1, got 1.5"),
        ("ppo", {"steps": 47}, r"steps must be 48 \(envs × rollout\) or more"),
        ("ppo", {"batch_size": 49}, r"batch_size must be 2 or more, at most 48 \(envs × rollout\)"),
        ("ppo", {"batch_size": 1}, "batch_size must be 2 or more"),
        ("ppo", {"batch_size": 47}, "leave no batch of 1, got 47"),
    ],
)
def test_hyper_parameters_out_of_range_are_refused(algorithm: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hyper_parameters(algorithm, **(BRIEF[algorithm] | given))


def test_the_longest_warm_up_that_leaves_a_learning_step_is_accepted(tmp_path: Path) -> None:
    assert training.train(run_of("ddpg-paper", warm_up=92, drops=1), tmp_path).curve[-1]["steps"] == 96


def test_seeds_of_training_validation_and_test_never_meet() -> None:
    runs = [seeds.of_run(run) for run in range(400)]
    assert runs[0] == seeds.TRAINING
    assert set(np.diff(runs)) == {seeds.RUN}
    assert runs[-1] + seeds.RUN - 1 < seeds.VALIDATION < seeds.TEST
    assert all(hyper_parameters(name).envs < seeds.RUN for name in parameters.ALGORITHMS)
    for refused in (-1, 400, 1.0, True):
        with pytest.raises(ValueError, match="seed must be a whole number from 0 to 399"):
            seeds.of_run(refused)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("algorithm", "arguments", "message"),
    [
        ("ddpg-paper", ["--seed", "-1"], "seed must be a whole number from 0 to 399, got -1"),
        ("ddpg-paper", ["--seed", "400"], "seed must be a whole number from 0 to 399, got 400"),
        ("ddpg-paper", ["--seed", "9" * 30], "seed must be a whole number from 0 to 399"),
        ("ddpg-paper", ["--validation-drops", "0"], "validation drops must be from 1 to 100000, got 0"),
        ("ddpg-paper", ["--validation-drops", "9" * 30], "validation drops must be from 1 to 100000"),
        ("ddpg-paper", ["--device", "cuda"], "torch cannot compute on the device 'cuda' here"),
        ("ddpg-paper", ["--device", "gpu"], "torch cannot compute on the device 'gpu' here"),
        ("ddpg-paper", ["--device", ""], "torch cannot compute on the device '' here"),
        ("ddpg-paper", ["--steps", "0"], "steps must be a whole number above 0, got 0"),
        ("ddpg-paper", ["--envs", "9999"], "envs must be a whole number above 0, at most 1000, got 9999"),
        ("ddpg-paper", ["--learning-rate", "inf"], "learning_rate must be a number above 0, at most 1, got inf"),
        ("ddpg-paper", ["--learning-rate", "nan"], "learning_rate must be a number above 0, at most 1, got nan"),
        ("ddpg-paper", ["--tau", "-1"], "tau must be a number above 0, at most 1, got -1"),
        ("ddpg-paper", ["--mixed", "urban"], "only ddpg and grpo train on several presets"),
        ("ddpg-paper", ["--mixed"], "--mixed needs at least one value"),
        ("ddpg-paper", ["--M", "100000", "--K", "10000"], "agents are trained for at most 1,000,000 AP–user links"),
        ("ddpg-paper", ["--crlb-threshold-m2", "1e-9"], "local-search serves none of the 2 validation drops"),
        ("ddpg", ["--envs", "1", "--mixed", "urban", "high-rate"], "3 presets need as many envs or more, got 1"),
        ("ddpg", ["--mixed", "urban:9"], "mixed takes presets, or PRESET:MxK such as urban:50x20, got 'urban:9'"),
        ("ddpg", ["--decisions", "2"], "decisions must be 5 or more"),
        ("ppo", ["--rollout", "0"], "rollout must be a whole number above 0, got 0"),
    ],
)
def test_bad_input_is_one_clear_line_and_leaves_no_folder(
    algorithm: str, arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = [] if "--M" in arguments else ["--M", "8", "--K", "2"]
    options = [*size, "--validation-drops", "2", "--out", str(tmp_path / "run"), *arguments]
    assert main(["train", algorithm, *options]) == 2
    lines = capsys.readouterr().err.strip()
    assert message in " ".join(lines.split())
    assert lines.startswith("cfisac: ")
    assert not (tmp_path / "run").exists()


def test_the_command_trains_resumes_and_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = "--M 8 --K 2 --crlb-threshold-m2 20 --steps 32 --envs 4 --warm-up 8 --batch-size 8 --validation-drops 2"
    command = ["train", "ddpg-paper", "--out", str(tmp_path / "run"), *options.split()]
    assert main(command) == 0
    assert "% feasible" in capsys.readouterr().out
    assert main(command) == 0
    assert main([*command, "--no-resume"]) == 2
    assert "holds a run already" in " ".join(capsys.readouterr().err.split())
    assert main([*command, "--learning-rate", "0"]) == 2
    assert "learning_rate must be a number above 0" in capsys.readouterr().err
    assert main([*command, "--out", str(tmp_path / "run" / "run.json" / "below")]) == 2
    assert "is not a folder; choose another --out" in " ".join(capsys.readouterr().err.split())
    assert main([*command, "--out", str(tmp_path / "large"), "--buffer-size", str(10**15)]) == 2
    assert "Unable to allocate" in capsys.readouterr().err
    assert main([*command, "--out", str(tmp_path / "large")]) == 0  # not taken by the run that couldn't be built
    assert main(["train", "ddpg-paper", "--learning-rat", "1"]) == 2


def test_shipped_agents_serve_every_drop_close_to_the_oracle_at_other_sizes_than_that_of_training() -> None:
    import agents
    from agents.rl.validation import Validation

    for M, K in ((24, 5), (36, 8)):
        validation = Validation(SystemConfig(M, K), 4, 1.0)
        score = validation.score(agents.load("ddpg", M=M, K=K))
        assert score.feasible == 1.0
        assert score.gap < 0.1


def test_unknown_options_of_agents_and_values_out_of_range_are_refused() -> None:
    import agents

    for options, message in (
        ({"completions": 0}, "completions must be a whole number of 1 or more, got 0"),
        ({"search": "no"}, "search must be True or False, got 'no'"),
        ({"budget": 64}, "budget must be a Budget"),
    ):
        with pytest.raises(ValueError, match=message):
            agents.load("ddpg", **options)
    for name, option in (("ddpg", "complitions"), ("ddpg-paper", "completions")):
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{option}'"):
            agents.load(name, **{option: 2})


def test_shipped_files_name_the_run_that_trained_them() -> None:
    shipped = sorted(loading.WEIGHTS.glob("*.safetensors"))
    assert shipped
    for path in shipped:
        run, _, card = storage.read(path)
        size = "" if run.every_size else f"-{run.config.M}x{run.config.K}"
        assert path.stem == f"{run.algorithm}{size}"
        assert (
            card["steps"] < run.parameters.steps + 10 * run.parameters.envs
        )  # whole rounds of at most ten decisions a drop
        assert card["seconds"] > 0
        loaded = loading.load(run.algorithm, M=run.config.M, K=run.config.K)
        observation, _ = gym.make("CfIsac-v0", M=run.config.M, K=run.config.K).reset(seed=0)
        assert loaded.predict(observation)[0].shape == (run.config.M, run.config.K + 1)
