"""Ordered map over processes of this machine (joblib) or of a Ray cluster."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import resource_tracker
from typing import Any, TypeVar

from baselines import interruption

T = TypeVar("T")
R = TypeVar("R")

LOCAL = "local"
"""Address that starts Ray on this machine."""


def in_order(
    function: Callable[[T], R], tasks: Iterable[T], *, workers: int | None = None, ray: str | None = None
) -> Iterator[R]:
    """Yield `function(task)` for every task, in the order of the tasks and as soon as they are ready.

    Args:
        function: importable by the workers; its exceptions are raised here.
        tasks: may be an endless iterator, since workers take them one by one.
        workers: number of processes; by default that of the processors, of this machine or the cluster. With 1 and without Ray,
            this process does the work.
        ray: address of a Ray cluster (`auto`, `ray://host:10001`), or `local` to start one here; None for joblib.

    Raises:
        ValueError: fewer than one worker.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be 1 or more, got {workers}; leave it out to use every processor")
    if ray is not None:
        return _interruptible(_on_ray(function, tasks, workers, ray))
    if workers == 1:
        return _interruptible(map(function, tasks))
    return _interruptible(_on_joblib(function, tasks, workers))


def _interruptible(results: Iterator[R]) -> Iterator[R]:
    for result in results:
        interruption.check()
        yield result


def _on_joblib(function: Callable[[T], R], tasks: Iterable[T], workers: int | None) -> Iterator[R]:
    import joblib
    from joblib.externals.loky.backend import resource_tracker as loky_tracker

    pool = joblib.Parallel(
        n_jobs=-1 if workers is None else workers, return_as="generator", initializer=_follow, initargs=(os.getpid(),)
    )
    for tracker in (resource_tracker, loky_tracker):
        tracker.ensure_running()  # first, since starting them would let the signal through
    # Results are left when their reader fails or is interrupted; joblib then warns from whatever collects the generator.
    warnings.filterwarnings("ignore", message=r"\d+ tasks (which were still|have been successfully)", module=r"joblib")
    with interruption.held():
        results = pool(joblib.delayed(function)(task) for task in tasks)
    try:
        yield from results
    finally:
        results.close()  # ends the workers when results were left


def _follow(parent: int) -> None:
    """End this worker within seconds of its parent, and leave Ctrl+C to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="watch-parent").start()


def _check_cluster(address: str) -> None:
    """Refuse an address at which nothing listens, for which Ray would wait minutes.

    Raises:
        ConnectionError: nothing listens there.
    """
    if address in (LOCAL, "auto"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"a Ray cluster's address is auto, local, host:port or ray://host:port, got {address!r}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10.0).close()
    except OSError as error:
        raise ConnectionError(
            f"no Ray cluster answers at {address} ({error.strerror or error}); start one with `ray start --head`, or leave --ray out"
        ) from None


def _on_ray(function: Callable[[T], R], tasks: Iterable[T], workers: int | None, address: str) -> Iterator[R]:
    # Ray's joblib back end yields nothing before the last task has ended, so tasks are submitted here.
    _check_cluster(address)
    import ray

    with interruption.handlers_kept():  # Ray replaces them
        if address == LOCAL:
            ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)
        else:
            try:
                ray.init(address=address, log_to_driver=False)
            except (RuntimeError, ValueError) as error:
                raise ConnectionError(f"no Ray cluster answers at {address} ({str(error).splitlines()[0]})") from None
    try:
        remote: Any = ray.remote(
            lambda task: function(task)
        )  # Ray refuses partial functions; tasks of a killed worker run again
        processors: Callable[[], dict[str, float]] = ray.cluster_resources
        most = 2 * (workers or int(processors()["CPU"]))  # one running and one waiting task each
        queue = iter(tasks)
        waiting = deque(remote.remote(task) for task in itertools.islice(queue, most))
        while waiting:
            result = ray.get(waiting.popleft())
            waiting.extend(remote.remote(task) for task in itertools.islice(queue, 1))
            yield result
    finally:
        ray.shutdown()
