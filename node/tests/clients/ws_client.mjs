// Sessions of Node's `ws` with a node, in protobuf and JSON: `ws_client.mjs HOST:PORT`. Ends with 0 if all is well.
// The few messages are written and read here by hand, so that nothing of the node's own codec judges itself.
import assert from "node:assert/strict";
import WebSocket from "ws";

const hub = `ws://${process.argv[2]}/hubs/demo/ws`;
const PATIENCE = 20_000; // milliseconds that one answer may take

const EVENT = { Close: 3, SessionInfo: 10, Publish: 30, Ack: 31, Subscribe: 32, Position: 35, Presence: 40 };

// --- protobuf: fields by number, each a list of bigint (varint) or Buffer (length-delimited)

function varint(number) {
  const bytes = [];
  for (let rest = BigInt(number); ; rest >>= 7n) {
    if (rest < 0x80n) return Buffer.from([...bytes, Number(rest)]);
    bytes.push(Number(rest & 0x7fn) | 0x80);
  }
}

function field(number, value) {
  if (typeof value === "number") return Buffer.concat([varint(number << 3), varint(value)]);
  const bytes = Buffer.from(value);
  return Buffer.concat([varint((number << 3) | 2), varint(bytes.length), bytes]);
}

const message = (...fields) => Buffer.concat(fields);

function parse(bytes) {
  let at = 0;
  const readVarint = () => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      assert.ok(at < bytes.length, "a varint is cut off");
      const byte = bytes[at++];
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  const fields = {};
  while (at < bytes.length) {
    const key = Number(readVarint());
    let value = readVarint();
    assert.ok([0, 2].includes(key & 7), `wire type ${key & 7}`);
    if ((key & 7) === 2) {
      const end = at + Number(value);
      assert.ok(end <= bytes.length, "a field is cut off");
      value = bytes.subarray(at, end);
      at = end;
    }
    (fields[key >> 3] ??= []).push(value);
  }
  return fields;
}

// --- a session

class Client {
  #waiting = [];
  #wake = () => {};

  static async connect(subprotocols, decode) {
    const client = new Client();
    client.socket = new WebSocket(hub, subprotocols);
    client.socket.on("message", (data, isBinary) => {
      client.#waiting.push(decode(data, isBinary));
      client.#wake();
    });
    await client.within("open", new Promise((yes, no) => client.socket.once("open", yes).once("error", no)));
    return client;
  }

  // The next that matches; others are kept for later.
  async next(what, matches) {
    const search = async () => {
      for (;;) {
        const index = this.#waiting.findIndex(matches);
        if (index >= 0) return this.#waiting.splice(index, 1)[0].payload;
        await new Promise((wake) => (this.#wake = wake));
      }
    };
    return this.within(what, search());
  }

  async within(what, promise) {
    let timer;
    const late = new Promise((_, no) => (timer = setTimeout(() => no(new Error(`${what}: nothing came`)), PATIENCE)));
    return Promise.race([promise, late]).finally(() => clearTimeout(timer));
  }

  closed() {
    return this.within("close", new Promise((yes) => this.socket.once("close", yes)));
  }
}

function binary(data, isBinary) {
  assert.ok(isBinary, "a text message in a session of protobuf");
  const { 1: [event] = [0n], 2: [payload] = [Buffer.alloc(0)] } = parse(data);
  return { event: Number(event), payload: parse(payload) };
}

function text(data, isBinary) {
  assert.ok(!isBinary, "a binary message in a session of JSON");
  return JSON.parse(data.toString());
}

const envelope = (event, ...fields) => message(field(1, event), field(2, message(...fields)));
const is = (event) => (told) => told.event === event;

// --- what is checked

async function openProtobuf() {
  const client = await Client.connect(["appsockets.v1.protobuf"], binary);
  assert.equal(client.socket.protocol, "appsockets.v1.protobuf");
  const info = await client.next("SessionInfo", is(EVENT.SessionInfo));
  assert.equal(info[1][0].toString(), "demo");
  assert.equal(info[3][0], 1n, "hubAllowAnonymous");
  assert.equal(info[6], undefined, "authenticated");
  client.id = info[2][0].toString();
  return client;
}

async function openJson() {
  const client = await Client.connect(["appsockets.v1.json"], text);
  const info = await client.next("SessionInfo", is("SessionInfo"));
  client.id = info.sessionID;
  return client;
}

async function subscribe(client) {
  client.socket.send(envelope(EVENT.Subscribe, field(1, 1), field(2, field(1, "mixed"))));
  const answer = await client.next("Subscribe", is(EVENT.Subscribe));
  assert.equal(answer[1][0], 1n);
  assert.deepEqual(answer[2].map(String), ["mixed"]);
  assert.equal(answer[3], undefined, "errors");
  const position = await client.next("Position", is(EVENT.Position));
  assert.equal(position[1][0].toString(), "mixed");
  const presence = await client.next("Presence", is(EVENT.Presence));
  assert.deepEqual(presence[2].map((member) => parse(member)[1][0].toString()), [client.id]);
}

// In three frames of one message, with a ping between them: what RFC 6455 allows and few clients do.
function sendInPieces(socket, bytes) {
  socket.send(bytes.subarray(0, 3), { binary: true, fin: false });
  socket.ping("between");
  socket.send(bytes.subarray(3, 7), { binary: true, fin: false });
  socket.send(bytes.subarray(7), { binary: true, fin: true });
}

async function fromProtobufToJson(sender, listener) {
  const pong = sender.within("pong", new Promise((yes) => sender.socket.once("pong", yes)));
  const bytes = Buffer.from([0xff, 0x00, 0x80]);
  const publish = message(field(1, "mixed"), field(2, "bytes"), field(3, bytes), field(5, 7));
  sendInPieces(sender.socket, envelope(EVENT.Publish, field(1, publish)));
  assert.equal((await pong).toString(), "between");

  const ack = await sender.next("Ack", is(EVENT.Ack));
  const result = parse(ack[1][0]);
  assert.equal(result[1][0], 7n);
  assert.equal(result[2][0], 1n, "success");
  const heard = await listener.next("Publish", is("Publish"));
  assert.equal(heard.base64, bytes.toString("base64"));
  assert.equal(heard.event, "bytes");
  assert.equal(heard.msgID, result[3][0].toString());
  const echoed = await sender.next("Publish", is(EVENT.Publish));
  assert.deepEqual(echoed[3][0], bytes);
  assert.equal(echoed[6][0].toString(), heard.channelSerial);
}

async function fromJsonToProtobuf(sender, listener) {
  const publishes = [{ reqID: 8, channel: "mixed", event: "json", payload: { deep: ["grüße", 1.5] } }];
  sender.socket.send(JSON.stringify({ event: "Publish", payload: { publishes } }));
  const { published } = await sender.next("Ack", is("Ack"));
  assert.equal(published[0].success, true);
  const heard = await listener.next("Publish", is(EVENT.Publish));
  assert.deepEqual(JSON.parse(heard[3][0].toString()), { deep: ["grüße", 1.5] });
  assert.equal(heard[4][0].toString(), published[0].msgID);
}

// A client that never learned of a field or sends rubbish is told so, and goes on.
async function refusals(client) {
  client.socket.send(Buffer.from([0xff, 0xff]));
  const isError = is(4);
  const error = await client.next("Error", isError);
  assert.equal(error[2][0].toString(), "bad_message");
  client.socket.send(envelope(999));
  assert.equal((await client.next("Error", isError))[2][0].toString(), "unknown_event");
}

const one = await openProtobuf();
await subscribe(one);
const two = await openJson();
two.socket.send(JSON.stringify({ event: "Subscribe", payload: { reqID: 1, channels: [{ channel: "mixed" }] } }));
await two.next("Subscribe", is("Subscribe"));
await fromProtobufToJson(one, two);
await fromJsonToProtobuf(two, one);
await refusals(one);
one.socket.send(envelope(EVENT.Close));
await one.closed();
const left = await two.next("Leave", is("Leave"));
assert.deepEqual(left.members.map((member) => member.sessionID), [one.id]);
two.socket.send(JSON.stringify({ event: "Close" }));
await two.closed();
