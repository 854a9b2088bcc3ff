"""Background responses: polled, streamed, picked up again where the client lost them, cancelled."""

import asyncio

import openai

from events import check_events, dumped
from flows import equal, flow, raises
from harness import eventually

OPEN = ("queued", "in_progress")


def finished(f, response_id):
    """Polls as the SDK's guide does, until the response is no longer open."""

    def ended():
        response = f.client.responses.retrieve(response_id)
        return response if response.status not in OPEN else None

    return eventually(f"{response_id} ends", ended, seconds=20)


@flow
def background_poll(f):
    response = f.respond("[[delay_ms=20]] in the background", background=True)
    assert response.status in OPEN, response.status
    assert response.background is True
    done = finished(f, response.id)
    equal(done.status, "completed")
    equal(done.output_text, f"You said: in the background {f.mark}")
    equal(done.usage.output_tokens, 6)


@flow
def background_survives_its_client(f):
    """The stream's client goes; the work goes on by itself, once."""
    stream = f.respond("[[delay_ms=30]] [[words:30]]", background=True, stream=True)
    response_id = next(iter(stream)).response.id
    stream.close()
    equal(finished(f, response_id).output_text, " ".join(f"word{i}" for i in range(1, 31)))
    equal([line["finished"] for line in f.sent()], [True])


@flow
def background_stream_whole(f):
    events = dumped(f.respond("streamed", background=True, stream=True))
    final = check_events(events)
    equal(final["status"], "completed")
    equal(final["output"][0]["content"][0]["text"], f"You said: streamed {f.mark}")


@flow
def background_resume_raw(f):
    """`starting_after=N` gives N+1 and what follows: no event twice, none lost."""
    stream = f.respond("[[delay_ms=30]] [[words:30]]", background=True, stream=True)
    head = []
    for event in stream:
        head.append(event.model_dump(exclude_unset=True))
        if len(head) == 9:
            break
    stream.close()
    response_id, last = head[0]["response"]["id"], head[-1]["sequence_number"]
    tail = dumped(f.client.responses.retrieve(response_id, stream=True, starting_after=last))
    equal(tail[0]["sequence_number"], last + 1, "the first event after the cut")
    final = check_events(head + tail)
    equal(final["output"][0]["content"][0]["text"], " ".join(f"word{i}" for i in range(1, 31)))
    again = dumped(f.client.responses.retrieve(response_id, stream=True, starting_after=last))
    equal(again, tail, "the same tail, asked for again")


@flow
def background_resume_helper(f):
    """The helper asks for the whole log and filters by itself."""
    with f.client.responses.stream(
        model="mock/demo", input=f"[[delay_ms=30]] [[words:20]] {f.mark}", background=True
    ) as stream:
        seen = []
        for event in stream:
            seen.append(event)
            if len(seen) == 7:
                break
    response_id, last = seen[0].response.id, seen[-1].sequence_number
    with f.client.responses.stream(response_id=response_id, starting_after=last) as stream:
        numbers = [event.sequence_number for event in stream]
        final = stream.get_final_response()
    equal(numbers[0], last + 1)
    equal(final.output_text, " ".join(f"word{i}" for i in range(1, 21)))


@flow
def background_resume_async_helper(f):
    first = f.respond("[[delay_ms=20]] [[words:20]]", background=True)

    async def run():
        async with f.async_client() as client:
            async with client.responses.stream(response_id=first.id) as stream:
                async for _ in stream:
                    pass
                return await stream.get_final_response()

    equal(asyncio.run(run()).output_text, " ".join(f"word{i}" for i in range(1, 21)))


@flow
def background_log_after_the_end(f):
    """The whole log stays readable: from its start, from its middle, and past its end."""
    response = f.respond("kept", background=True)
    finished(f, response.id)
    whole = dumped(f.client.responses.retrieve(response.id, stream=True))
    check_events(whole)
    cut = whole[3]["sequence_number"]
    equal(
        dumped(f.client.responses.retrieve(response.id, stream=True, starting_after=cut)), whole[4:]
    )
    last = whole[-1]["sequence_number"]
    equal(dumped(f.client.responses.retrieve(response.id, stream=True, starting_after=last)), [])


@flow
def background_two_readers(f):
    """Two readers of one running response see the same events."""
    response = f.respond("[[delay_ms=20]] [[words:25]]", background=True)

    async def run():
        async with f.async_client() as client:

            async def read():
                stream = await client.responses.retrieve(response.id, stream=True)
                return [event.model_dump(exclude_unset=True) async for event in stream]

            return await asyncio.gather(read(), read())

    left, right = asyncio.run(run())
    equal(left, right)
    check_events(left)


@flow
def background_chain(f):
    first = f.respond("start of a chain", background=True)
    finished(f, first.id)
    second = f.respond("[[echo:messages]]", previous_response_id=first.id, background=True)
    assert f"You said: start of a chain {f.mark}" in finished(f, second.id).output_text


@flow
def background_cancel(f):
    """Cancelling ends the loop and the provider's work; again is no error; its stream says so."""
    stream = f.respond("[[delay_ms=100]] [[words:200]]", background=True, stream=True)
    events = []
    for event in stream:
        events.append(event.model_dump(exclude_unset=True))
        if len(events) == 6:
            break
    response_id = events[0]["response"]["id"]
    cancelled = f.client.responses.cancel(response_id)
    equal(cancelled.status, "cancelled")
    equal(f.client.responses.cancel(response_id).status, "cancelled", "cancelled again")
    events += dumped(stream)
    equal(events[-1]["type"], "response.incomplete")
    equal(events[-1]["response"]["status"], "cancelled")
    equal(f.client.responses.retrieve(response_id).status, "cancelled")
    [line] = eventually("the provider sees the cut", f.sent)
    assert line["finished"] is False


@flow
def background_cancel_finished(f):
    response = f.respond("too late", background=True)
    done = finished(f, response.id)
    late = f.client.responses.cancel(response.id)
    equal((late.status, late.output_text), ("completed", done.output_text))


@flow
def background_cancel_changes_nothing_finished(f):
    """Also a foreground response, which OpenAI refuses to cancel, stays as it ended."""
    response = f.respond("foreground")
    try:
        equal(f.client.responses.cancel(response.id).status, "completed")
    except openai.BadRequestError as error:
        assert "background" in error.body["message"], error.body
    equal(f.client.responses.retrieve(response.id).output_text, response.output_text)
    raises(openai.NotFoundError, lambda: f.client.responses.cancel("resp_nothing"))


@flow
def background_failure(f):
    response = f.respond("[[fault:status=500]]", background=True)
    failed = finished(f, response.id)
    equal(failed.status, "failed")
    assert failed.error.code and failed.error.message, failed.error
    events = dumped(f.client.responses.retrieve(response.id, stream=True))
    equal(events[-1]["type"], "response.failed")
    check_events(events)


@flow
def background_delete(f):
    response = f.respond("gone soon", background=True)
    finished(f, response.id)
    f.client.responses.delete(response.id)
    raises(openai.NotFoundError, lambda: f.client.responses.retrieve(response.id, stream=True))


@flow
def background_new_turn_meanwhile(f):
    """A turn on a response that is still open is refused by a 400, never by a 409."""
    response = f.respond("[[delay_ms=100]] [[words:20]]", background=True)
    error = raises(
        openai.BadRequestError, lambda: f.respond("too early", previous_response_id=response.id)
    )
    assert error.body["code"] and error.body["message"], error.body
    f.client.responses.cancel(response.id)


@flow
def background_sent_again(f):
    """A POST sent again attaches to its open turn, and is a new one once that was taken and ended."""
    again = {"x-stainless-retry-count": "1"}
    first = f.respond("[[prefill_ms=1000]] taken", background=True)
    attached = f.respond("[[prefill_ms=1000]] taken", background=True, extra_headers=again)
    equal(attached.id, first.id)
    finished(f, first.id)
    second = f.respond("[[prefill_ms=1000]] taken", background=True, extra_headers=again)
    assert second.id != first.id, "the old response of a POST that was answered"
    equal(finished(f, second.id).status, "completed")
    equal(len(f.sent()), 2, "requests at the provider")
