"""A one-shot container whose exit code decides whether ``up`` is green."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar, cast

import pulumi
import pulumi_docker as docker

from pandom.config.container_specs import ContainerSpec
from pandom.runtime.naming import resource_name
from stacks.container import Wiring, container

T = TypeVar("T")


class Job(pulumi.ComponentResource):
    """Runs once for every change of its image, command, settings or labels.

    The provider calls a job that failed a success and finds nothing to do on the
    next ``up``. So its exit code is checked here, each time the program runs: it
    stays red until the job is replaced. What must come after takes an input
    through ``after_success``; ``depends_on`` alone would not wait for the verdict.
    """

    container: docker.Container
    logs: pulumi.Output[str]
    succeeded: pulumi.Output[bool]

    def __init__(
        self,
        name: str,
        spec: ContainerSpec,
        wiring: Wiring,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("pandom-stack:index:Job", name, None, opts)
        self.container = container(
            f"{name}-container", spec, wiring, pulumi.ResourceOptions(parent=self)
        )
        # The jobs never print a secret (a test searches for every one of them); the
        # state keeps the output encrypted all the same.
        self.logs = pulumi.Output.unsecret(self.container.container_logs).apply(
            lambda text: text or ""
        )
        self.succeeded = pulumi.Output.all(self.container.exit_code, self.logs).apply(
            lambda result: check_exit(spec.stack, spec.part, result[0], result[1])
        )
        self.register_outputs({"succeeded": self.succeeded})

    def after_success(self, value: T) -> pulumi.Input[T]:
        """``value``, once the job has succeeded. A preview shows it at once, so
        that the plan is readable before anything runs."""
        if pulumi.runtime.is_dry_run():
            return value
        verdict = self.succeeded.apply(lambda _: value)
        # Without the job as its dependency: Pulumi deletes before a replacement whatever
        # takes an input from it, so each change of the jobs' image would restart the
        # servers, and a job that fails would leave the scheduler deleted.
        future = cast(Awaitable[T], verdict.future())
        return pulumi.Output(set(), future, verdict.is_known(), verdict.is_secret())


def check_exit(stack: str, part: str, code: int | None, logs: str) -> bool:
    """Return True for exit code 0; else raise an error that shows the job's log.

    Raises ``pulumi.RunError``, which Pulumi prints without a traceback.
    """
    if code == 0:
        return True
    last = "\n".join(f"    {line}" for line in logs.strip().splitlines()[-15:])
    ended = "did not report an exit code" if code is None else f"failed with exit code {code}"
    raise pulumi.RunError(
        f"The {part} job {ended}. Last log lines:\n{last}\n"
        f"Fix the cause and run `make up` again; the whole log: "
        f"docker logs {resource_name(stack, part)}"
    )
