"""Server-Sent Events and publishing with Python's own HTTP: `http_client.py HOST:PORT`. Ends with 0 if all is well."""

import http.client
import json
import sys

NODE = sys.argv[1]
PATIENCE = 20  # seconds that one answer may take


def connection():
    return http.client.HTTPConnection(NODE, timeout=PATIENCE)


def publish(channel, text, hub="demo"):
    """Publishes; gives the status and the answer."""
    body = json.dumps({"publishes": [{"channel": channel, "event": "e", "text": text}]})
    http_connection = connection()
    http_connection.request("POST", f"/hubs/{hub}/publish", body, {"Content-Type": "application/json"})
    answer = http_connection.getresponse()
    return answer.status, json.loads(answer.read())


def accepted(channel, text):
    """Publishes; gives the message's id."""
    status, answer = publish(channel, text)
    assert status == 200, (status, answer)
    (result,) = answer["published"]
    assert result["success"] is True, result
    return result["msgID"]


class Stream:
    """A stream of events: each block is one envelope, or the id of all before it."""

    def __init__(self, query, last_event_id=None):
        headers = {"Accept": "text/event-stream"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        self.connection = connection()
        self.connection.request("GET", f"/hubs/demo/sse?{query}", headers=headers)
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200, (self.answer.status, self.answer.read())
        kind = self.answer.getheader("Content-Type")
        assert kind.startswith("text/event-stream"), kind
        self.waiting = []

    def block(self):
        """The fields of the next block; comments are passed over."""
        fields = {}
        while True:
            line = self.answer.readline().decode()
            assert line.endswith("\n"), "the stream ended"
            line = line.rstrip("\r\n")
            if not line and fields:
                return fields
            if line and not line.startswith(":"):
                name, _, value = line.partition(":")
                assert name not in fields, (name, fields)
                fields[name] = value.removeprefix(" ")

    def event(self, name):
        """The payload of the next event of this name; others are kept for later."""
        seen = 0
        while True:
            while seen == len(self.waiting):
                fields = self.block()
                if "data" in fields:
                    assert fields.keys() == {"data"}, fields
                    self.waiting.append(json.loads(fields["data"]))
            if self.waiting[seen]["event"] == name:
                return self.waiting.pop(seen).get("payload", {})
            seen += 1

    def id(self):
        """The next id."""
        while True:
            fields = self.block()
            if "id" in fields:
                assert fields.keys() == {"id"} and 0 < len(fields["id"]) <= 1024, fields
                return fields["id"]

    def close(self):
        self.answer.close()
        self.connection.close()


def check_resuming():
    stream = Stream("channel=a&channel=b%3A1")
    assert stream.event("SessionInfo")["hubID"] == "demo"
    opened = {stream.event("Position")["channel"] for _ in range(2)}
    assert opened == {"a", "b:1"}, opened
    first = accepted("a", "first")
    assert stream.event("Publish")["msgID"] == first
    last = stream.id()
    stream.close()

    missed = [accepted("a", "missed"), accepted("b:1", "missed too")]
    stream = Stream("channel=a&channel=b%3A1", last)
    heard = {stream.event("Publish")["msgID"] for _ in missed}
    assert heard == set(missed), (heard, missed)
    after = accepted("a", "live again")
    assert stream.event("Publish")["msgID"] == after, "something came twice"
    stream.close()


def check_refusals():
    status, problem = publish("a", "x", hub="nowhere")
    assert (status, problem["name"]) == (404, "hub_not_found"), (status, problem)
    status, problem = publish("a", "x", hub="closed")
    assert (status, problem["name"]) == (401, "unauthorized"), (status, problem)
    status, answer = publish("quiet:1", "x")
    (result,) = answer["published"]
    assert status == 200 and result["error"]["name"] == "channel_denied", (status, answer)
    stream = Stream("channel=a&channel=%00")
    assert stream.event("Error")["name"] == "bad_channel"
    assert stream.event("Position")["channel"] == "a"
    stream.close()


check_resuming()
check_refusals()
