"""Random steps in a random order, made smaller by hypothesis when one of them fails."""

import math
import sys
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import hypothesis
import redis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from app.author.options import Unique
from app.lifecycle.recovery import Outcome
from app.workflows.graph import Dependency, Node
from tests.properties.workers import QUEUES
from tests.properties.world import LIMITS, World, callbacks_inline

MAX_JOBS = 14
STEPS_PER_LIFE, STEPS_PER_RUN = 60, 6000
SOME = st.sampled_from
ARGUMENTS = SOME((1, 2))
RULES = st.builds(
    Unique, by=st.just("{a}"), during=SOME(("queued", "queued_or_running")),
    on_conflict=SOME(("return", "reject", "replace")),
)  # fmt: skip
OPTIONS = st.fixed_dictionaries(
    {"a": ARGUMENTS, "limit": SOME(tuple(LIMITS)), "breaker": SOME((False, False, False, True)), "queue": SOME(QUEUES)},
    optional={
        "at_front": st.just(True), "ttl": st.just(100_000), "retry_waits": SOME(([0, 60], [0], [60])),
        "unique": RULES, "named": st.just(True),
    },
)  # fmt: skip
NUMBER = st.integers(0, 999)
"""Which one of so many as there are: what is drawn must not depend on the state of Redis, which chance orders too."""
CHANGES = st.fixed_dictionaries({}, optional={"queue": SOME(QUEUES), "at_front": st.just(True), "timeout": st.just(9)})
NODES = st.fixed_dictionaries(
    {
        "after": st.lists(st.tuples(NUMBER, st.booleans()), max_size=2), "each": SOME((None, None, [1, 2])),
        "delay": SOME((None, None, 60.0)),
    }
)  # fmt: skip
HOOKS = SOME(((), ("on_success",), ("on_failure", "on_complete")))
LATER = SOME(("delay", "at", "past", None, None, None))


def _time(kind: str | None, seconds: int = 3600) -> dict[str, Any]:
    if kind == "delay":
        return {"delay": float(seconds)}
    if kind:
        return {"at": datetime.now(UTC) + timedelta(seconds=seconds if kind == "at" else -seconds)}
    return {}


def run(connection: redis.Redis, steps: int, seed: int) -> tuple[int, str]:
    """Make so many steps: how many were made, and what was wrong, with the steps that show it. Ctrl-C ends it early."""
    made = 0
    while made < steps:
        machine = type("Lives", (Lives,), {"connection": connection, "steps": 0})
        try:
            run_state_machine_as_test(
                hypothesis.seed(seed + made)(machine),
                settings=hypothesis.settings(
                    max_examples=math.ceil(min(steps - made, STEPS_PER_RUN) / STEPS_PER_LIFE),
                    stateful_step_count=STEPS_PER_LIFE, deadline=None, database=None,
                    suppress_health_check=list(hypothesis.HealthCheck), report_multiple_bugs=False,
                    phases=(hypothesis.Phase.generate,),
                ),
            )  # fmt: skip
        except KeyboardInterrupt:
            return made + machine.steps, "interrupted"
        except Exception as error:
            return made + machine.steps, "\n".join(
                [f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())]
            )
        made += machine.steps
    return made, ""


def pick(some: list[Any], number: int) -> Any:
    return some[number % len(some)] if some else None


class Lives(RuleBasedStateMachine):
    """`steps` counts over all examples."""

    connection: ClassVar[redis.Redis]
    steps: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.connection)

    @initialize(some=st.lists(OPTIONS, max_size=3))
    def begin_with(self, some: list[dict[str, Any]]) -> None:
        for options in some:
            self.world.enqueue([self.world.prepare(**options, id=self.world.new_id())])
            self.world.listen()

    def check_invariants(self, *args: Any, **kwargs: Any) -> None:
        with callbacks_inline():
            self.world.check()
        type(self).steps += 1
        super().check_invariants(*args, **kwargs)

    def teardown(self) -> None:
        try:
            if sys.exc_info()[1] is None:  # no step has failed
                with callbacks_inline():
                    self.world.drain()
        finally:
            self.world.close()

    def has_room(self) -> bool:
        return len(self.world.model.jobs) < MAX_JOBS

    @rule(options=OPTIONS, later=LATER, parents=st.lists(NUMBER, max_size=2))
    def enqueue(self, options: dict[str, Any], later: str | None, parents: list[int]) -> None:
        world = self.world
        known = [*world.model.ids(), *sorted(world.model.deleted)[:1]]
        depends_on = list(dict.fromkeys(known[number % len(known)] for number in parents)) if known else []
        if self.has_room():
            world.enqueue([world.prepare(**options, **_time(later), id=world.new_id(), depends_on=depends_on)])

    @rule(options=OPTIONS, count=st.integers(1, 3))
    def enqueue_some(self, options: dict[str, Any], count: int) -> None:
        world = self.world
        if self.has_room():
            world.enqueue([world.prepare(**options, id=world.new_id()) for _ in range(count)])

    @rule(first=OPTIONS, second=OPTIONS, backwards=st.booleans())
    def enqueue_two(self, first: dict[str, Any], second: dict[str, Any], backwards: bool) -> None:
        """The second depends on the first."""
        world = self.world
        if self.has_room():
            parent = world.prepare(**first, id=world.new_id())
            child = world.prepare(**second, id=world.new_id(), depends_on=[parent.id])
            world.enqueue([child, parent] if backwards else [parent, child])

    @rule(nodes=st.lists(NODES, min_size=1, max_size=4), hooks=HOOKS, stop=st.booleans())
    def submit(self, nodes: list[dict[str, Any]], hooks: tuple[str, ...], stop: bool) -> None:
        if not self.has_room() or len(self.world.workflows) >= 4:
            return
        made: list[Node] = []
        for number, said in enumerate(nodes):
            parents = {made[one % number].name: even for one, even in said["after"] if number}
            needs = [Dependency(name, even) for name, even in parents.items()]
            made.append(Node(f"n{number}", "demo.add", [1, 2], after=needs, each=said["each"]))
        ends = [Node(name, "demo.add", [1, 2]) for name in hooks]
        delays = {f"n{number}": said["delay"] for number, said in enumerate(nodes)}
        self.world.submit(made, ends, delays, "stop" if stop else "continue")

    @rule(number=st.integers(0, 2), wanted=st.integers(1, 4))
    def claim(self, number: int, wanted: int) -> None:
        self.world.claim(self.world.hands[number], wanted)

    @rule(number=st.integers(0, 2), end=SOME((None, None, "finish", "finish", "fail", *Outcome)))
    def attempt(self, number: int, end: str | None) -> None:
        """Claim and begin a job, and end it."""
        world = self.world
        world.claim(world.hands[number], 1)
        if world.claimed:
            world.begin(world.claimed[0])
        if world.begun and end == "finish":
            world.finish(world.begun[0])
        elif world.begun and end == "fail":
            world.fail(world.begun[0], may_retry=True)
        elif world.begun and end:
            with callbacks_inline():
                world.lose(world.begun[0], Outcome(end))

    @rule(number=NUMBER)
    def begin(self, number: int) -> None:
        if held := pick(self.world.claimed, number):
            self.world.begin(held)

    @rule(number=NUMBER)
    def finish(self, number: int) -> None:
        if held := pick(self.world.begun, number):
            self.world.finish(held)

    @rule(number=NUMBER, may_retry=st.booleans(), as_rq=SOME((False, False, False, True)))
    def fail(self, number: int, may_retry: bool, as_rq: bool) -> None:
        if held := pick(self.world.begun, number):
            if as_rq:
                self.world.fail_as_rq(held)
            else:
                self.world.fail(held, may_retry)

    @rule(number=NUMBER, outcome=SOME(tuple(Outcome)))
    def lose(self, number: int, outcome: Outcome) -> None:
        if held := pick([*self.world.claimed, *self.world.begun], number):
            with callbacks_inline():
                self.world.lose(held, outcome)

    @rule(number=NUMBER)
    def quarantine(self, number: int) -> None:
        if number < 200 and (held := pick(self.world.claimed, number)):
            self.world.quarantine(held)

    @rule(number=st.integers(0, 9))
    def lose_worker(self, number: int) -> None:
        if number < 3:
            with callbacks_inline():
                self.world.lose_worker(number)

    @rule()
    def give_back(self) -> None:
        if self.world.claimed:
            self.world.give_back(self.world.claimed[0][0])

    @rule(number=NUMBER)
    def beat(self, number: int) -> None:
        if held := pick(self.world.begun, number):
            self.world.beat(held)

    @rule(number=NUMBER)
    def speak_late(self, number: int) -> None:
        if held := pick(self.world.over, number):
            self.world.speak_late(held)

    @rule(number=NUMBER)
    def cancel(self, number: int) -> None:
        if job_id := pick(self.world.model.ids(), number):
            self.world.cancel(job_id)

    @rule(number=NUMBER, queue=SOME(("", "", *QUEUES)))
    def requeue(self, number: int, queue: str) -> None:
        dead = self.world.model.ids("failed", "stopped", "canceled")
        if job_id := pick(dead or self.world.model.ids(), number):
            self.world.requeue(job_id, queue)

    @rule(number=NUMBER)
    def delete(self, number: int) -> None:
        if job_id := pick(self.world.model.ids(), number):
            self.world.delete(job_id)

    @rule()
    def delete_ended(self) -> None:
        if not self.has_room():
            for job_id in self.world.model.ids("finished", "failed", "stopped", "canceled"):
                self.world.delete(job_id)

    @rule(number=NUMBER, said=CHANGES, later=LATER)
    def change(self, number: int, said: dict[str, Any], later: str | None) -> None:
        waiting = self.world.model.ids("queued", "scheduled", "deferred", "claimed")
        if job_id := pick(waiting or self.world.model.ids(), number):
            self.world.change(job_id, {**said, **_time(later)} or {"timeout": 7})

    @rule(number=NUMBER)
    def cancel_workflow(self, number: int) -> None:
        if workflow := pick(list(self.world.workflows), number):
            self.world.cancel_workflow(workflow)

    @rule(queue=SOME(QUEUES))
    def pause(self, queue: str) -> None:
        self.world.pause(queue)

    @rule()
    def resume(self) -> None:
        for queue in QUEUES:
            self.world.resume(queue)

    @rule(queue=SOME((*QUEUES, "", "", "")))
    def empty(self, queue: str) -> None:
        if queue:
            self.world.empty(queue)

    @rule(seconds=SOME((1, 11, 61, 700, 4000)))
    def time_passes(self, seconds: float) -> None:
        self.world.time_passes(seconds)

    @rule()
    def look(self) -> None:
        self.world.look()

    @rule()
    def sweep_workflows(self) -> None:
        self.world.sweep_workflows()

    @rule(number=NUMBER, lost=st.booleans())
    def put_back(self, number: int, lost: bool) -> None:
        if job_id := pick(self.world.model.ids("queued") or self.world.model.ids(), number):
            self.world.put_back(job_id, lost)
