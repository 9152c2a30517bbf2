"""A session of Python's `websockets` with a node, in JSON: `websockets_client.py HOST:PORT`. Ends with 0 if all is well."""

import base64
import contextlib
import json
import socket
import sys

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

NODE = sys.argv[1]
PATIENCE = 20  # seconds that one answer may take
SOCKETS = contextlib.ExitStack()  # closes what was opened


class Client:
    """A session, and what it was told and nobody has asked for yet."""

    def __init__(self, hub="demo", subprotocols=("appsockets.v1.json",)):
        url = f"ws://{NODE}/hubs/{hub}/ws"
        options = {"subprotocols": subprotocols or None, "proxy": None, "close_timeout": 1}
        self.socket = SOCKETS.enter_context(connect(url, **options))
        self.waiting = []
        first = json.loads(self.socket.recv(timeout=PATIENCE))
        assert first["event"] == "SessionInfo", first
        self.info = first["payload"]
        self.id = self.info["sessionID"]
        self.restore_key = self.next("SessionRestore")["restoreKey"]

    def send(self, event, **payload):
        self.socket.send(json.dumps({"event": event, "payload": payload}))

    def next(self, event, **fields):
        """The payload of the next event of this name that has these fields; others are kept for later."""
        seen = 0
        while True:
            while seen == len(self.waiting):
                self.waiting.append(self.receive(f"{event} {fields}"))
            told = self.waiting[seen]
            payload = told.get("payload", {})
            if told["event"] == event and all(payload.get(name) == value for name, value in fields.items()):
                del self.waiting[seen]
                return payload
            seen += 1

    def receive(self, wanted):
        try:
            return json.loads(self.socket.recv(timeout=PATIENCE))
        except TimeoutError:
            raise AssertionError(f"no {wanted}, but {self.waiting}") from None

    def subscribe(self, channel):
        """Subscribes; gives the channel's position and who is present."""
        self.send("Subscribe", reqID=1, channels=[{"channel": channel}])
        answer = self.next("Subscribe", reqID=1)
        assert answer["subscribedChannels"] == [channel] and not answer.get("errors"), answer
        position = self.next("Position", channel=channel)
        assert "recovered" not in position, position
        present = {member["sessionID"] for member in self.next("Presence", channel=channel)["members"]}
        return position, present

    def publish(self, channel, req_id, **item):
        """Publishes; gives the result."""
        self.send("Publish", publishes=[{"channel": channel, "reqID": req_id, "event": "e", **item}])
        (result,) = self.next("Ack")["published"]
        assert result["reqID"] == req_id, result
        return result

    def break_off(self):
        """Ends the connection as a lost network does, without a word."""
        self.socket.socket.shutdown(socket.SHUT_RDWR)

    def leave(self):
        """Says goodbye, and waits for the node to close."""
        self.send("Close")
        try:
            while True:
                self.socket.recv(timeout=PATIENCE)
        except ConnectionClosed:
            pass


def sequence(serial):
    return int(serial.rsplit(":", 1)[1])


def check_session(anna):
    assert anna.socket.subprotocol == "appsockets.v1.json", anna.socket.subprotocol
    assert anna.info["hubID"] == "demo" and anna.info["hubAllowAnonymous"] is True, anna.info
    assert anna.info["authenticated"] is False and anna.info["defaultPublic"] is True, anna.info
    assert anna.info["maxMessageSize"] > 0 and anna.info["pingIntervalMs"] > 0, anna.info
    assert anna.socket.ping().wait(PATIENCE), "the node answers no ping frame"


def check_messages(anna, ben, position):
    """Each payload arrives in the form that it was published in, in order, for sender and listener alike."""
    payloads = [{"payload": {"n": [1, None]}}, {"text": "grüße"}, {"base64": base64.b64encode(b"\xff\x00").decode()}]
    before = sequence(position["channelSerial"])
    for number, payload in enumerate(payloads, start=1):
        result = ben.publish("news", 10 + number, extra={"store": True}, **payload)
        assert result["success"] is True, result
        for client in (anna, ben):
            message = client.next("Publish", channel="news")
            (form,) = payload
            assert message[form] == payload[form], message
            assert {"payload", "text", "base64"} & message.keys() == {form}, message
            assert message["msgID"] == result["msgID"] and message["event"] == "e", (message, result)
            assert sequence(message["channelSerial"]) == before + number, message
            assert isinstance(message["ts"], int), message


def check_history(anna):
    anna.send("History", reqID=20, channel="news", limit=2)
    page = anna.next("History", reqID=20)
    forms = [next(form for form in ("payload", "text", "base64") if form in message) for message in page["messages"]]
    assert forms == ["base64", "text"] and page["more"] is True, page
    anna.send("History", reqID=21, channel="news", beforeSerial=page["messages"][-1]["channelSerial"])
    page = anna.next("History", reqID=21)
    assert [message.get("payload") for message in page["messages"]] == [{"n": [1, None]}], page
    assert not page.get("more"), page


def check_retained(anna, ben):
    assert ben.publish("board", 30, text="kept", extra={"retain": True})["success"] is True
    anna.send("Subscribe", reqID=31, channels=[{"channel": "board"}])
    message = anna.next("Publish", channel="board")
    assert message["text"] == "kept" and message["retained"] is True, message


def check_refusals(anna):
    result = anna.publish("quiet:1", 40, text="x")
    assert result["success"] is False and result["error"]["name"] == "channel_denied", result
    anna.send("Subscribe", reqID=41, channels=[{"channel": ""}, {"channel": "quiet:1"}])
    answer = anna.next("Subscribe", reqID=41)
    assert answer["subscribedChannels"] == ["quiet:1"], answer
    assert [error["name"] for error in answer["errors"]] == ["bad_channel"], answer
    anna.send("Dance")
    assert anna.next("Error")["name"] == "unknown_event"
    anna.socket.send("{")
    assert anna.next("Error")["name"] == "bad_message"


def check_restore(anna):
    """A broken connection costs nothing: what was missed comes, and nobody saw a leave."""
    ben = Client()
    _, present = ben.subscribe("trip")
    position, present = anna.subscribe("trip")
    assert present >= {anna.id, ben.id}, present
    assert ben.next("Join", channel="trip")["members"][0]["sessionID"] == anna.id
    anna.break_off()
    missed = ben.publish("trip", 50, text="missed")["msgID"]

    back = Client()
    known = [{"channel": "trip", "channelSerial": position["channelSerial"]}]
    back.send("SessionRestore", restoreKey=anna.restore_key, channels=known)
    restored = back.next("SessionRestored")
    assert restored["sessionID"] == anna.id and "trip" in restored["subscribedChannels"], restored
    assert back.next("Position", channel="trip")["recovered"] is True
    assert back.next("Publish", channel="trip")["msgID"] == missed

    # Events of a channel keep their order, so a leave or a join of hers would have come before this.
    ben.publish("trip", 51, text="last")
    ben.next("Publish", text="last")
    changes = [told for told in ben.waiting if told["event"] in ("Join", "Leave")]
    assert not changes, changes

    late = Client()
    late.send("SessionRestore", restoreKey=anna.restore_key)
    assert late.next("Error")["name"] == "restore_failed", "a key works twice"
    late.leave()
    back.leave()
    assert ben.next("Leave", channel="trip")["members"][0]["sessionID"] == anna.id
    ben.leave()


def check_ways_in():
    plain = Client(subprotocols=())
    assert plain.socket.subprotocol is None
    plain.leave()
    try:
        Client(hub="nowhere")
        raise AssertionError("there is a hub that nobody made")
    except InvalidStatus as refusal:
        problem = json.loads(refusal.response.body)
        assert refusal.response.status_code == 404 and problem["name"] == "hub_not_found", problem


def main():
    check_ways_in()
    anna, ben = Client(), Client()
    check_session(anna)
    position, present = anna.subscribe("news")
    assert present == {anna.id}, present
    _, present = ben.subscribe("news")
    assert present == {anna.id, ben.id}, present
    assert anna.next("Join", channel="news")["members"][0]["sessionID"] == ben.id
    anna.next("Occupancy", channel="news", count=2)
    check_messages(anna, ben, position)
    check_history(anna)
    check_retained(anna, ben)
    check_refusals(anna)
    ben.leave()
    assert anna.next("Leave", channel="news")["members"][0]["sessionID"] == ben.id
    anna.next("Occupancy", channel="news", count=1)
    check_restore(anna)


with SOCKETS:
    main()
