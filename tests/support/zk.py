"""A foreign ZooKeeper client: one JSON array per line in, one JSON object per line out.

Arguments: the servers, the session timeout and the limit of one operation, both in seconds.
"""

import contextlib
import json
import signal
import sys
import threading
import time

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException, NoNodeError
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.retry import KazooRetry
from kazoo.security import OPEN_ACL_UNSAFE, make_acl

LIMIT = int(sys.argv[3]) if len(sys.argv) > 3 else 30
# without a connection
LONGEST = 120
UNWRITABLE = make_acl("world", "anyone", read=True, admin=True)
UNREADABLE = make_acl("world", "anyone", write=True, create=True, delete=True, admin=True)


class OutOfTime(Exception):
    """The connection is there, and what was asked for is never answered: kazoo itself would wait for ever."""


def node(stat):
    return {
        "version": stat.version,
        "owner": "0x%x" % stat.ephemeralOwner if stat.ephemeralOwner else None,
        "czxid": stat.czxid,
    }


def main():
    patient = KazooRetry(max_tries=-1, delay=0.05, backoff=1, deadline=20)
    client = KazooClient(
        hosts=sys.argv[1],
        timeout=float(sys.argv[2]) if len(sys.argv) > 2 else 10.0,
        connection_retry=KazooRetry(max_tries=-1, delay=0.05, backoff=1),
        command_retry=patient,
    )
    times = {"began": time.monotonic(), "connected": time.monotonic()}

    def begin():
        """From now on the operation under way has its time."""
        times["began"] = time.monotonic()
        signal.alarm(LIMIT)

    def give_up(*_):
        """Not while the connection is made anew: then it is tried again, or waits for that."""
        now = time.monotonic()
        stood = now - times["connected"] if client.connected else 0
        if stood >= LIMIT or now - times["began"] >= LONGEST:
            raise OutOfTime
        signal.alarm(1)

    signal.signal(signal.SIGALRM, give_up)
    client.add_listener(lambda _: times.update(connected=time.monotonic()))
    client.start(timeout=20)

    def create(path, data, ephemeral=False):
        client.retry(client.create, path, data.encode(), ephemeral=ephemeral, makepath=True)
        return {}

    def put(path, data):
        client.ensure_path(path)
        return node(client.retry(client.set, path, data.encode()))

    def get(path):
        data, stat = client.retry(client.get, path)
        return {"data": data.decode("utf-8", "replace"), **node(stat)}

    def rm(path):
        client.retry(client.delete, path, recursive=True)
        return {}

    def level(paths):
        asked = [(p, client.get_async(p), client.get_children_async(p)) for p in paths]
        for path, data, names in asked:
            try:
                yield path, data.get(timeout=10), names.get(timeout=10)
            except NoNodeError:
                pass

    def read_tree(paths):
        nodes = {}
        client.sync("/")
        while paths:
            begin()
            below = []
            for path, (data, stat), names in level(paths):
                nodes[path] = {"data": data.decode("utf-8", "replace"), **node(stat)}
                below += [f"{path}/{name}" for name in names]
            paths = below
        return nodes

    def many(list_of_commands):
        for name, *args in list_of_commands:
            begin()
            with contextlib.suppress(KazooException):
                commands[name](*args)
        return {}

    def take(path, data):
        """In one step: nobody sees the path without a node."""
        steps = client.transaction()
        steps.delete(path)
        steps.create(path, data.encode(), ephemeral=True)
        for outcome in steps.commit():
            if isinstance(outcome, Exception):
                raise outcome
        return {}

    def raw(path, hexadecimal):
        client.ensure_path(path)
        client.retry(client.set, path, bytes.fromhex(hexadecimal))
        return {}

    def children(path, count):
        client.ensure_path(path)
        for start in range(0, count, 2000):
            begin()
            names = (f"{path}/10.{n >> 16}.{n >> 8 & 255}.{n & 255}:80" for n in range(start, min(start + 2000, count)))
            for made in [client.create_async(name, b"{}") for name in names]:
                made.get(timeout=20)
        return {}

    def rewrite(path, count, seconds):
        """Evenly over this time, or longer where that can't be done."""
        start = time.monotonic()
        for part in range(0, count, 10):
            begin()
            names = range(part, min(part + 10, count))
            for written in [client.set_async(path, b'{"weight":%d}' % (n % 900 + 1)) for n in names]:
                with contextlib.suppress(NoNodeError):
                    written.get(timeout=20)
            time.sleep(max(0, start + seconds * part / count - time.monotonic()))
        return {"seconds": time.monotonic() - start}

    observed = {"looks": 0, "events": [], "missing": 0}

    def observe(path):
        """From now on looks at the node all the time, and right after every event of it."""

        def looked(answer):
            observed["looks"] += 1
            observed["missing"] += answer.get() is None

        def heard(event):
            observed["events"].append(event.type)
            client.exists_async(path, watch=heard).rawlink(looked)

        def look():
            while client.connected:
                client.exists_async(path).rawlink(looked)
                time.sleep(0.001)

        client.exists(path, watch=heard)
        threading.Thread(target=look, daemon=True).start()
        return {}

    def readable(path, yes):
        client.retry(client.set_acls, path, OPEN_ACL_UNSAFE if yes else [UNREADABLE])
        return {}

    def writable(path, yes):
        client.retry(client.set_acls, path, OPEN_ACL_UNSAFE if yes else [UNWRITABLE])
        return {}

    commands = {
        "tree": lambda paths: {"nodes": client.retry(read_tree, paths)},
        "many": many,
        "create": create,
        "ephemeral": lambda path, data: create(path, data, True),
        "set": lambda path, data: node(client.retry(client.set, path, data.encode())),
        "put": put,
        "take": take,
        "readable": readable,
        "writable": writable,
        "raw": raw,
        "children": children,
        "rewrite": rewrite,
        "observe": observe,
        "observed": lambda: observed,
        "rm": rm,
        "get": get,
        "ls": lambda path: {"names": sorted(client.retry(client.get_children, path))},
        "session": lambda: {"session": "0x%x" % client.client_id[0]},
    }
    for line in sys.stdin:
        name, *args = json.loads(line)
        if name == "close":
            break
        try:
            begin()
            answer = {"ok": True, **commands[name](*args)}
        except (KazooException, KazooTimeoutError, OutOfTime) as error:
            answer = {"ok": False, "error": type(error).__name__}
        signal.alarm(0)
        print(json.dumps(answer), flush=True)
    client.stop()
    client.close()
    print(json.dumps({"ok": True}), flush=True)


main()
