"""Whatever happens to jobs in whatever order: each is in one place, and nothing waits for what has happened."""

import redis

from app.lifecycle.recovery import Outcome
from app.workflows.graph import Dependency, Node
from tests.properties import machine, transitions
from tests.properties.world import World

STEPS, SEED = 3_600, 7


def test_lives_of_jobs_in_random_order(valkey: redis.Redis) -> None:
    """`python -m benchmarks lives` makes 100,000 steps, of another seed each time."""
    transitions.seen.clear()
    steps, problem = machine.run(valkey, STEPS, SEED)
    assert not problem, problem
    assert steps >= STEPS
    make_rare_transitions(World(valkey))
    assert transitions.drawn() - transitions.seen.keys() == set()  # the model refuses what is not drawn


def make_rare_transitions(world: World) -> None:
    """Those that so few random steps may leave out."""
    parent = world.prepare(1, "none", breaker=False, id="parent", queue="high", retry_waits=[60])
    world.enqueue([parent, world.prepare(1, "none", breaker=False, id="child", queue="high", depends_on=["parent"])])
    world.check()
    world.change("child", {"queue": "low"})
    world.check()
    world.claim(world.hands[0], 1)
    world.begin(world.claimed[0])
    world.fail(world.begun[0], may_retry=True)
    world.submit([Node("a", "demo.add"), Node("b", "demo.add", after=[Dependency("a")])], [], {}, "continue")
    world.check()
    for step in (world.cancel, world.requeue):
        step("f0-a")
        world.check()
    make_rare_ends(world)
    world.drain()
    world.close()


def make_rare_ends(world: World) -> None:
    later = {"scheduled": {"delay": 3600.0}, "deferred": {"depends_on": ["parent"]}}
    delayed = world.new_id()
    world.enqueue([world.prepare(1, "none", breaker=False, id=delayed, queue="low", delay=3600.0)])
    world.check()
    world.change(delayed, {"delay": 7200.0})
    world.check()
    for status, options in {"queued": {}, **later}.items():
        for step in (world.cancel, world.delete):
            job_id = world.new_id()
            world.enqueue([world.prepare(1, "none", breaker=False, id=job_id, queue="low", **options)])
            world.check()
            assert world.model.jobs[job_id].status == status
            step(job_id)
            world.check()
    finished = world.new_id()
    world.enqueue([world.prepare(1, "none", breaker=False, id=finished, queue="high", at_front=True)])
    world.claim(world.hands[0], 1)
    world.begin(world.claimed[0])
    world.finish(world.begun[0])
    world.check()
    world.delete(finished)
    world.check()
    for end in (Outcome.STOPPED, Outcome.FAILED, None):
        for step in (world.requeue, world.delete):
            job_id = world.new_id()
            world.enqueue([world.prepare(1, "none", breaker=False, id=job_id, queue="high", at_front=True)])
            world.check()
            world.claim(world.hands[0], 1)
            if end:
                world.begin(world.claimed[0])
                world.lose(world.begun[0], end)
            else:
                world.quarantine(world.claimed[0])
            world.check()
            step(job_id)
            world.check()
            if step == world.requeue:
                world.delete(job_id)
                world.check()
