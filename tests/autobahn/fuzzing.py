"""The four conformance runs: which end is looked at, and whether that end validates or is blind.

`backend-*`: a fuzzing client in front, the end behind. `client-*`: the end in front, a fuzzing server behind.
Each gives {case: "message outcome/close outcome"}.
"""

import asyncio
import contextlib

from kosoku import FailureError, run_fuzzingclient, run_fuzzingserver

import ends

CONCURRENCY = 8
CASE_DEADLINE = 150
RUN_DEADLINE = 1500
AGENT = "end"


async def run(name, cases, excluded, between):
    """Runs the cases; `between` is a context manager that takes the rear's port and gives the front's."""
    end = ENDS[name]
    drive = backend_run if name.startswith("backend-") else client_run
    return await asyncio.wait_for(drive(end, cases, excluded, between), RUN_DEADLINE)


@contextlib.asynccontextmanager
async def directly(port):
    """Nothing between the ends."""
    yield port


async def backend_run(backend, cases, excluded, between):
    server, port = await backend()
    async with server, between(port) as front:
        try:
            results = await run_fuzzingclient(
                f"127.0.0.1:{front}", cases, excluded, concurrency=CONCURRENCY
            )
        except FailureError as failed:
            results = failed.results
    return outcomes(results)


async def client_run(client, cases, excluded, between):
    async with run_fuzzingserver(cases, excluded, port=0) as server, between(server.port) as front:
        turns = asyncio.Semaphore(CONCURRENCY)

        async def one(case):
            path = f"/runCase?case={case}&agent={AGENT}"
            async with turns:
                await asyncio.wait_for(client("127.0.0.1", front, path), CASE_DEADLINE)

        count = int(await asyncio.wait_for(ends.first_message("127.0.0.1", front, "/getCaseCount"), CASE_DEADLINE))
        await asyncio.gather(*(one(case) for case in range(1, count + 1)))
        await ends.validating_client("127.0.0.1", front, f"/updateReports?agent={AGENT}")
        try:
            results = await asyncio.wait_for(server.get_result(), CASE_DEADLINE)
        except FailureError as failed:
            results = failed.results
    if len(results) != count:
        raise RuntimeError(f"{count} cases, but {len(results)} results")
    return outcomes(results)


def outcomes(results):
    return {result.case_id: f"{result.behavior.value}/{result.behavior_close.value}" for result in results}


ENDS = {
    "backend-validating": ends.validating_backend,
    "backend-blind": ends.blind_backend,
    "client-validating": ends.validating_client,
    "client-blind": ends.blind_client,
}
