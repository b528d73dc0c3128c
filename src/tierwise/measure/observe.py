"""Sends traffic to a live server and records when every token came."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace

from tierwise.core.errors import TierwiseError
from tierwise.measure.observe_http import HttpClient, ServerError, refuse
from tierwise.measure.observe_prompts import prompt
from tierwise.measure.observe_server import PATHS, Server, ServerState, meet
from tierwise.measure.observe_stream import DONE, Events, piece
from tierwise.serving.traffic.trace import Trace

TICK = 1.0  # seconds between two looks at the server's metrics
GONE = 16  # requests in a row that found no server, after which no more are sent
_AT_ONCE = 8  # texts a tokenizer is asked about at once
Progress = Callable[[int, int, int, float], None]


@dataclass(frozen=True)
class Observed:
    """One request as the client saw it. Times in seconds of ``time.monotonic``.

    Attributes:
        index: which request of the trace; ``sent``: when it was sent.
        times: when each piece of the answer came; ``pieces`` often hold one token each, but may hold several.
        prompt, output: tokens.
        prompt_by: who counted those of the prompt: ``usage`` (the answer says), ``tokenizer`` (the server was asked),
            or ``words`` (a line through what the server counted in other texts).
        output_by: likewise ``usage``, ``limit`` (the answer ended because it had all that was asked for), or
            ``pieces`` (taken as one token each).
        cached: prompt tokens found in the server's prefix cache, -1 where it does not say.
        finish: the server's reason to end; ``error``: what went wrong, "" for nothing.
    """

    index: int
    sent: float
    times: tuple[float, ...] = ()
    prompt: int = 0
    output: int = 0
    prompt_by: str = "usage"
    output_by: str = "usage"
    cached: int = -1
    finish: str = ""
    error: str = ""


@dataclass(frozen=True)
class Recording:
    """What was seen: requests in the order they ended, and the server's state every ``TICK`` seconds.

    Attributes:
        answered, failed: requests; ``unsent``: those not sent or not ended when it was stopped.
        start: the recording's zero on the clock of all times; ``epoch``: the same moment as seconds since 1970.
        states: (seconds after the start, what the server's metrics said).
        stopped: "" where all requests were played, else why not: ``by the user`` or ``the server is gone``.
    """

    server: Server
    trace: Trace
    answered: tuple[Observed, ...]
    failed: tuple[Observed, ...]
    unsent: int
    start: float
    epoch: float
    end: float
    states: tuple[tuple[float, ServerState], ...]
    stopped: str = ""


def observe(
    url: str,
    trace: Trace,
    *,
    model: str | None = None,
    endpoint: str | None = None,
    key: str = "",
    timeout: float = 600.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Recording:
    """Plays a trace against a live server that speaks OpenAI's protocol, with streamed answers.

    Args:
        url: the server, ``http://host:port``. Nothing else is talked to.
        trace: when requests are sent and how long they are. In a closed loop each place is a user who plays the
            turns of one session after the other; equal blocks become equal text.
        model, endpoint: as :func:`tierwise.measure.observe_server.meet` takes them.
        key: sent as a bearer token.
        timeout: seconds of silence after which a request has failed.
        seed: of the prompts' words.
        progress: called now and then with (answered, failed, in flight, seconds).

    Returns:
        The recording; a Ctrl-C ends it early.

    Raises:
        TierwiseError: the server is not there or does not answer in this protocol; no request was answered.
    """
    if not len(trace):
        raise TierwiseError("the traffic holds no request")

    async def main() -> Recording:
        client = HttpClient(url, key, timeout)
        try:
            server = await meet(client, model, endpoint, seed)
            found = await _record(server, trace, seed, progress)
            return await _counted(found, seed)
        finally:
            client.close()

    found = asyncio.run(main())
    if not found.answered and found.failed:
        reasons = [r.error for r in found.failed]
        most = max(set(reasons), key=reasons.count)
        raise TierwiseError(f"none of {len(reasons)} requests was answered; {reasons.count(most)} of them: {most}")
    return found


async def _record(server: Server, trace: Trace, seed: int, progress: Progress | None) -> Recording:
    done: list[Observed] = []
    states: list[tuple[float, ServerState]] = []
    flying: set[int] = set()
    lost = 0  # in a row
    gone = asyncio.Event()
    epoch, start = time.time(), time.monotonic()

    def write(i: int) -> str:
        return prompt(trace, i, server.ruler, seed)

    async def ask(i: int, text: str) -> bool:
        nonlocal lost
        flying.add(i)
        try:
            found, here = await _ask(server, i, text, int(trace.output[i]))
        finally:
            flying.discard(i)
        done.append(found)
        lost = 0 if here else lost + 1
        if lost >= GONE:
            gone.set()
        return not found.error

    def told() -> None:
        if progress is not None:
            failed = sum(1 for r in done if r.error)
            progress(len(done) - failed, failed, len(flying), time.monotonic() - start)

    async def watch() -> None:
        tick = 1
        while True:
            await _until(start + tick * TICK)
            states.append((tick * TICK, await server.state()))
            told()
            # A server too busy to answer in time misses looks; none is dated back.
            tick = max(tick, int((time.monotonic() - start) / TICK)) + 1

    watching = asyncio.create_task(watch())
    playing = asyncio.create_task(_play(trace, start, write, ask))
    leaving = asyncio.create_task(gone.wait())
    stopped = ""
    try:
        await asyncio.wait({playing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if playing.done():
            playing.result()
        else:
            stopped = "the server is gone"
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
        stopped = "by the user"
    end = time.monotonic()
    for task in (playing, watching, leaving):
        task.cancel()
    await asyncio.gather(playing, watching, leaving, return_exceptions=True)
    told()
    answered = tuple(r for r in done if not r.error)
    failed = tuple(r for r in done if r.error)
    return Recording(server, trace, answered, failed, len(trace) - len(done), start, epoch, end, tuple(states), stopped)


async def _play(
    trace: Trace, start: float, write: Callable[[int], str], ask: Callable[[int, str], Awaitable[bool]]
) -> None:
    """Sends every request at its time; its text is written before, so that long ones are not late. The turns of a
    session end with the first that fails."""
    followers: dict[int, list[int]] = {}
    for i in (trace.after >= 0).nonzero()[0].tolist():
        followers.setdefault(int(trace.after[i]), []).append(i)
    opening = (trace.after < 0).nonzero()[0].tolist()

    async def session(i: int, text: str) -> None:
        if await ask(i, text) and i in followers:
            now = time.monotonic()
            async with asyncio.TaskGroup() as turns:
                for j in followers[i]:
                    turns.create_task(turn(j, now + float(trace.think[j])))

    async def turn(i: int, at: float) -> None:
        text = write(i)
        await _until(at)
        await session(i, text)

    async def user(sessions: Iterator[int]) -> None:
        for i in sessions:
            await session(i, write(i))

    async with asyncio.TaskGroup() as all_:
        if trace.closed_loop:
            shared = iter(opening)
            for _ in range(min(trace.closed_loop, len(opening))):
                all_.create_task(user(shared))
        else:
            for i in opening:
                text = write(i)
                await _until(start + float(trace.arrival[i]))
                all_.create_task(session(i, text))


async def _until(at: float) -> None:
    await asyncio.sleep(max(0.0, at - time.monotonic()))


async def _ask(server: Server, i: int, text: str, tokens: int) -> tuple[Observed, bool]:
    """One request; what came of it, and whether there was a server at all."""
    events, times, finish, ended, error, here = Events(), list[float](), "", False, "", True
    prompted, made, cached = -1, -1, -1
    path = PATHS[server.endpoint]
    sent = time.monotonic()
    try:
        async with server.client.send("POST", path, server.body(text, tokens)) as answer:
            if answer.status >= 300:
                refuse(server.client.name + path, answer.status, answer.headers, await answer.read())
            async for at, data in answer.body:
                for event in events.feed(data):
                    if event == DONE:
                        ended = True
                        continue
                    found = piece(event)
                    # A server that counts as it goes also tells of tokens that print nothing.
                    if found.token or 0 <= made < found.output:
                        times.append(at)
                    finish = found.finish or finish
                    prompted, made, cached = (
                        max(x) for x in ((prompted, found.prompt), (made, found.output), (cached, found.cached))
                    )
        if not (ended or finish):
            error = "the stream ended before the answer did"
        elif not times:
            error = "the answer holds no token"
    except ServerError as lost:
        # A server that was reached and answers badly is still there.
        error, here = str(lost), lost.status > 0 or bool(times)
    except TierwiseError as bad:
        error = str(bad)
    made_by = "usage" if made > 0 else "limit" if finish == "length" else "pieces"
    prompt_by = "usage" if prompted > 0 else "words"
    return Observed(
        i, sent, tuple(times),
        prompted if prompted > 0 else server.ruler.tokens(text.count(" ") + 1),
        {"usage": made, "limit": tokens, "pieces": len(times)}[made_by],
        prompt_by, made_by, cached, finish, error,
    ), here  # fmt: skip


async def _counted(found: Recording, seed: int) -> Recording:
    """Prompts that the server did not count with their answers, counted by its tokenizer where it has one."""
    server, trace = found.server, found.trace
    open_ = [i for i, r in enumerate(found.answered) if r.prompt_by == "words"]
    if server.tokenizer is None or not open_:
        return found
    answered, turns = list(found.answered), iter(open_)

    async def counting() -> None:
        for i in turns:
            text = prompt(trace, answered[i].index, server.ruler, seed)
            answered[i] = replace(answered[i], prompt=await server.count(text), prompt_by="tokenizer")

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(counting())
    except* TierwiseError:
        pass  # the server is gone; what its words make stands
    except* asyncio.CancelledError:
        pass
    return replace(found, answered=tuple(answered))
