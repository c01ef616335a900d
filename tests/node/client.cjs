// A client made of npm's `ws`: node client.cjs SCENARIO URL, before one of the echo upstreams.
//
// Exits 0 when everything was as it must be; else it says on standard error what was not.
"use strict";

const assert = require("node:assert/strict");
const crypto = require("node:crypto");
const { once } = require("node:events");
const WebSocket = require("ws");

const url = process.argv[3];

async function open({ path = "/", protocols = [], deflate = false } = {}) {
  const socket = new WebSocket(url + path, protocols, {
    perMessageDeflate: deflate && { threshold: 0 },
    maxPayload: 2 ** 25,
  });
  await once(socket, "open");
  return socket;
}

async function received(socket) {
  const [data, binary] = await once(socket, "message");
  return binary ? data : String(data);
}

async function echoed(socket, message) {
  socket.send(message);
  assert.deepEqual(await received(socket), message);
}

async function ending(socket) {
  const [code, reason] = await once(socket, "close");
  return [code, String(reason)];
}

async function messages(deflate) {
  const socket = await open({ deflate });
  assert.equal(socket.extensions !== "", deflate);
  for (const message of ["", "text \u2603", "x".repeat(200_000), Buffer.alloc(0)]) {
    await echoed(socket, message);
  }
  await echoed(socket, crypto.randomBytes(70_000));
  socket.terminate();
}

const scenarios = {
  plain: () => messages(false),
  deflate: () => messages(true),

  async large() {
    for (const deflate of [false, true]) {
      const socket = await open({ deflate });
      await echoed(socket, crypto.randomBytes(2 ** 24));
      socket.terminate();
    }
  },

  async subprotocol() {
    const socket = await open({ protocols: ["v0", "v1"] });
    assert.equal(socket.protocol, "v1");
    socket.terminate();
  },

  async fragments() {
    for (const deflate of [false, true]) {
      const socket = await open({ deflate });
      socket.send("pieces");
      assert.equal(await received(socket), "one two three");
      socket.send("a", { fin: false });
      socket.ping("between");
      socket.send("", { fin: false });
      socket.send("b", { fin: true });
      assert.equal(await received(socket), "ab");
      socket.terminate();
    }
  },

  async pings() {
    const socket = await open();
    socket.ping("from client");
    const [payload] = await once(socket, "pong");
    assert.equal(String(payload), "from client");
    socket.send("ping");
    assert.equal(await received(socket), "pong from upstream");
    socket.terminate();
  },

  async closed() {
    const socket = await open();
    socket.send("close");
    assert.deepEqual(await ending(socket), [4321, "as asked"]);
  },

  async closes() {
    const socket = await open();
    socket.close(4000, "mine");
    assert.deepEqual(await ending(socket), [4000, "mine"]);
  },

  async refused() {
    const socket = new WebSocket(url + "/refuse");
    const [, response] = await once(socket, "unexpected-response");
    assert.equal(response.statusCode, 403);
    const body = await response.toArray();
    assert.equal(String(Buffer.concat(body)), "not you");
  },

  async bereft() {
    const socket = await open();
    socket.send("die");
    assert.deepEqual(await ending(socket), [1006, ""]);
  },

  // Says that it is connected, and waits to be killed, or for the other side to die.
  async waits() {
    const socket = await open();
    console.log("connected");
    assert.deepEqual(await ending(socket), [1006, ""]);
  },
};

// A kept connection would keep it alive.
scenarios[process.argv[2]]().then(() => process.exit());
