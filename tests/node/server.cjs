// An upstream made of npm's `ws`: node server.cjs PATH, a Unix socket.
//
// Echoes messages, compressed where the client can. Some are orders: "close", "pieces", "ping",
// "die". GET answers how each WebSocket ended so far, as [[code, reason], …]; /refuse takes none.
"use strict";

const http = require("node:http");
const { WebSocketServer } = require("ws");

const endings = [];

const server = http.createServer((request, response) => {
  response.setHeader("Content-Type", "application/json");
  response.end(JSON.stringify(endings));
});

const sockets = new WebSocketServer({
  noServer: true,
  maxPayload: 2 ** 25,
  perMessageDeflate: { threshold: 0 },
  handleProtocols: (offered) => (offered.has("v1") ? "v1" : false),
});

const orders = {
  close: (socket) => socket.close(4321, "as asked"),
  pieces: (socket) => {
    socket.send("one ", { fin: false });
    socket.send("two ", { fin: false });
    socket.send("three", { fin: true });
  },
  ping: (socket) => {
    socket.once("pong", (payload) => socket.send(`pong ${payload}`));
    socket.ping("from upstream");
  },
  die: (socket) => socket.terminate(),
};

server.on("upgrade", (request, connection, ahead) => {
  if (request.url === "/refuse") {
    connection.end("HTTP/1.1 403 Forbidden\r\nContent-Length: 7\r\n\r\nnot you");
    return;
  }
  sockets.handleUpgrade(request, connection, ahead, (socket) => {
    socket.on("close", (code, reason) => endings.push([code, String(reason)]));
    socket.on("message", (data, binary) => {
      const order = binary ? undefined : orders[data];
      if (order) order(socket);
      else socket.send(data, { binary });
    });
  });
});

server.listen(process.argv[2]);
