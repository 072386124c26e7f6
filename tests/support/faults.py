"""The faults: what is done to the workers, their disks and the broker, each under traffic.

A fault is a function of the site. It orders traffic, waits for answers to be flowing, strikes, and
waits until answers flow again; the campaign leaves one worker running before and after each.
"""

import signal
from collections.abc import Callable
from typing import Final

from processor.engine.faults import EXIT_FAULT
from tests.support.site import Site
from tests.support.worker_process import WorkerProcess

CRASH_POINTS: Final = (
    "before-produce",
    "after-produce",
    "before-commit",
    "after-commit",
    "before-store",
    "after-store",
)
CRASH_EXIT_CODE: Final = 137
CRASH_WITHIN_S: Final = 150.0
CRASH_AFTER_BATCHES_MAX: Final = 5
TRICKLE: Final = 20
FLOWING: Final = 20  # Answers that show that a worker decides again.

Fault = Callable[[Site, int], None]


def _running(site: Site) -> WorkerProcess:
    """The one worker that runs between faults."""
    (worker,) = [worker for worker in site.workers if worker.wanted]
    return worker


def _until_somewhere_in(site: Site, requests: int) -> None:
    """Wait for a moment drawn from the first answers to the requests just ordered."""
    site.wait_answers(1 + site.random.randrange(max(2, requests // 2)))


def kill(site: Site, requests: int) -> None:
    """Signal 9 at a random moment; started again on the same disk."""
    worker = _running(site)
    site.feeder.order(requests)
    _until_somewhere_in(site, requests)
    site.kill(worker)
    site.start_again(worker)
    site.wait_answers(FLOWING)


def kill_one_of_two(site: Site, requests: int) -> None:
    """Signal 9 at a random moment; the other worker takes over, the dead one does not return."""
    first = _running(site)
    second = _another(site)
    site.wait_members(2)
    site.feeder.order(requests)
    _until_somewhere_in(site, requests)
    site.kill(first)
    site.wait_members(1)
    site.wait_answers(FLOWING)
    assert second.wanted


def _another(site: Site) -> WorkerProcess:
    """A second worker: a new one, or one that was ended before, on the disk it had."""
    for worker in site.workers:
        if not worker.wanted:
            site.start_again(worker)
            return worker
    return site.start_worker()


def crash_at(point: str) -> Fault:
    """The fault of ending at a named point inside the commit cycle."""

    def crash(site: Site, requests: int) -> None:
        worker = _running(site)
        site.stop(worker, starting=True)
        _start_to_crash(site, worker, point)
        site.feeder.order(requests)
        while (code := _end_of(site, worker)) == EXIT_FAULT:  # Before it came to the point.
            site.count_revival(worker)
            _start_to_crash(site, worker, point)
        assert code == CRASH_EXIT_CODE, f"{point}: ended with {code}\n{worker.log_tail()}"
        site.kills += 1
        site.start_again(worker)
        site.wait_answers(FLOWING)

    crash.__name__ = f"crash {point}"
    return crash


def _start_to_crash(site: Site, worker: WorkerProcess, point: str) -> None:
    worker.start_to_crash(point, site.random.randrange(CRASH_AFTER_BATCHES_MAX))
    site.starts += 1
    site.wait("a member", lambda: site.owning(1) or not worker.alive, CRASH_WITHIN_S)


def _end_of(site: Site, worker: WorkerProcess) -> int:
    site.wait("the crash", lambda: _has_ended(site, worker), CRASH_WITHIN_S)
    return worker.wait_exit()


def _has_ended(site: Site, worker: WorkerProcess) -> bool:
    """Whether the worker is gone; if not, and all is answered, a little more is asked.

    The crash point lets some batches pass first, and a fast worker needs few for all there was.
    """
    if worker.alive and site.reader.count >= site.feeder.promised():
        site.feeder.order(TRICKLE)
    return not worker.alive


def scale(site: Site, requests: int) -> None:
    """One worker to three under load, and back to one by graceful stops."""
    first = _running(site)
    site.feeder.order(requests // 2)
    others = [_another(site), _another(site)]
    site.wait_members(3)
    site.wait_answers(FLOWING)
    site.feeder.order(requests - requests // 2)
    site.wait_answers(FLOWING)
    for worker in others:
        site.stop(worker)
    site.wait_members(1)
    site.wait_answers(FLOWING)
    assert first.wanted


def zombie(site: Site, requests: int) -> None:
    """A worker stopped for longer than the session timeout goes on as if nothing had happened."""
    other = _running(site)
    sleeper = _another(site)
    site.wait_members(2)
    site.feeder.order(requests // 2)
    _until_somewhere_in(site, requests // 2)
    sleeper.send(signal.SIGSTOP)
    site.wait_members(1)  # The group gave its partitions away: the session timeout is over.
    site.feeder.order(requests - requests // 2)
    site.wait_answers(FLOWING)
    sleeper.send(signal.SIGCONT)
    site.wait_answers(requests // 4)
    site.wait_members(2)  # Fenced, it joined again or was started again.
    site.stop(sleeper)
    site.wait_members(1)
    assert other.wanted


def broker_restart(site: Site, requests: int) -> None:
    """The broker goes and comes back."""
    site.feeder.order(requests)
    _until_somewhere_in(site, requests)
    site.servers.kafka.restart()
    site.wait_answers(FLOWING)


def broker_kill(site: Site, requests: int) -> None:
    """The broker is killed and comes back."""
    site.feeder.order(requests)
    _until_somewhere_in(site, requests)
    site.servers.kafka.kill()
    site.servers.kafka.start()
    site.wait_answers(FLOWING)


def wiped_disk(site: Site, requests: int) -> None:
    """A worker is killed and its disk is lost."""
    worker = _running(site)
    site.feeder.order(requests)
    _until_somewhere_in(site, requests)
    site.kill(worker)
    worker.wipe()
    site.start_again(worker)
    site.wait_answers(FLOWING)


def old_disk(site: Site, requests: int) -> None:
    """A worker is killed and an old copy of its disk is put back."""
    worker = _running(site)
    copy = worker.directory.with_suffix(".copy")
    site.feeder.order(requests // 2)
    _until_somewhere_in(site, requests // 2)
    site.stop(worker, starting=True)
    worker.copy_disk(copy)
    site.start_again(worker)
    site.feeder.order(requests - requests // 2)
    site.wait_answers(requests // 2)
    site.kill(worker)
    worker.restore_disk(copy)
    site.start_again(worker)
    site.wait_answers(FLOWING)


SINGLE: Final[tuple[Fault, ...]] = (
    scale,
    zombie,
    broker_restart,
    broker_kill,
    wiped_disk,
    old_disk,
    *(crash_at(point) for point in CRASH_POINTS),
)
