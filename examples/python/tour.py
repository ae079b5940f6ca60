"""A tour of keelplane from Python: memory, events, cache and a lock over one local channel.

Needs the generated code in ./gen; README.md at the top of the repository has the two commands.
Usage: python examples/python/tour.py [ADDRESS]      default 127.0.0.1:50051
"""

import pathlib
import sys
import uuid

import grpc
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from google.rpc import error_details_pb2
from grpc_status import rpc_status

sys.path.insert(0, str(pathlib.Path(__file__).parent / "gen"))

from keelplane.v1 import (  # noqa: E402
    cache_service_pb2 as cache,
    cache_service_pb2_grpc as cache_grpc,
    event_service_pb2 as event,
    event_service_pb2_grpc as event_grpc,
    lock_service_pb2 as lock,
    lock_service_pb2_grpc as lock_grpc,
    memory_service_pb2 as memory,
    memory_service_pb2_grpc as memory_grpc,
)


def struct(**fields):
    """A google.protobuf.Struct from keyword arguments."""
    value = Struct()
    value.update(fields)
    return value


def reason(error):
    """The machine-readable reason of a failed call."""
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return info.reason
    return None


def remember(channel, collection):
    """Stores three texts and asks a question. The built-in embedder compares spelling, not meaning."""
    stub = memory_grpc.MemoryServiceStub(channel)
    stub.CreateCollection(
        memory.CreateCollectionRequest(
            collection=memory.Collection(id=collection, embedder="builtin-lexical-384")
        ),
        timeout=10,
    )
    texts = {
        "breakers": "A circuit breaker opens when a store is sick and lets a probe through later.",
        "leases": "A job lease that elapses makes the job claimable again.",
        "tokens": "A fencing token only ever rises, so a stale lock holder is refused.",
    }
    stub.UpsertRecords(
        memory.UpsertRecordsRequest(
            collection_id=collection,
            records=[
                memory.RecordInput(id=key, text=text, metadata=struct(lang="en"))
                for key, text in texts.items()
            ],
            request_id=str(uuid.uuid4()),
        ),
        timeout=10,
    )
    answer = stub.Search(
        memory.SearchRequest(
            collection_id=collection,
            query=memory.SearchQuery(
                text="what happens to a stale lock holder", k=1, filter='metadata.lang = "en"'
            ),
        ),
        timeout=10,
    )
    best = answer.result.hits[0]
    print(f"memory: {best.record.id} ({best.score:.2f}): {best.record.text}")
    assert best.record.id == "tokens"


def tell(channel, stream):
    """Appends two events with an expected revision, loses a race on purpose, and reads the state."""
    stub = event_grpc.EventServiceStub(channel)
    appended = stub.AppendEvents(
        event.AppendEventsRequest(
            stream=stream,
            no_stream=True,
            events=[
                event.NewEvent(type="task.opened", state_patch=struct(status="open", title="try keelplane")),
                event.NewEvent(type="task.closed", state_patch=struct(status="closed")),
            ],
        ),
        timeout=10,
    )
    try:
        stub.AppendEvents(
            event.AppendEventsRequest(
                stream=stream, no_stream=True, events=[event.NewEvent(type="task.opened")]
            ),
            timeout=10,
        )
        raise AssertionError("the second first append must lose")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.ABORTED, error
        print(f"events: a lost race is ABORTED, {reason(error)}")
    state = stub.GetStreamState(event.GetStreamStateRequest(stream=stream), timeout=10)
    print(f"events: at revision {appended.last_revision} the state is {MessageToDict(state.state)}")
    assert state.state["status"] == "closed"


def remember_briefly(channel, key):
    """Sets a value with a time to live and reads it back."""
    stub = cache_grpc.CacheServiceStub(channel)
    request = cache.CacheServiceSetRequest(namespace="tool-results", key=key, text="42")
    request.ttl.FromSeconds(60)
    stub.Set(request, timeout=10)
    entry = stub.Get(cache.CacheServiceGetRequest(namespace="tool-results", key=key), timeout=10).entry
    print(f"cache: {key} = {entry.text}, revision {entry.revision}")
    assert entry.text == "42"


def take_turns(channel, name):
    """Takes a lock; a second owner is told who holds it."""
    stub = lock_grpc.LockServiceStub(channel)
    mine = stub.AcquireLock(lock.AcquireLockRequest(name=name, owner_id="tour"), timeout=10)
    other = stub.AcquireLock(lock.AcquireLockRequest(name=name, owner_id="other"), timeout=10)
    assert mine.acquired and not other.acquired
    print(f"lock: held by {other.holder.owner_id} with fencing token {mine.token}")
    stub.ReleaseLock(lock.ReleaseLockRequest(name=name, token=mine.token), timeout=10)


def main():
    """Runs the tour with fresh names, so that it can be run again."""
    address = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051"
    run = uuid.uuid4().hex[:8]
    with grpc.insecure_channel(address) as channel:
        remember(channel, f"tour-{run}")
        tell(channel, f"task-{run}")
        remember_briefly(channel, f"answer-{run}")
        take_turns(channel, f"tour-{run}")
    print("ok")


if __name__ == "__main__":
    main()
