// A small web app that knows nothing of OpenTelemetry.
const http = require("node:http");

const server = http.createServer((request, response) => {
  const { pathname } = new URL(request.url, "http://localhost");
  response.end(pathname === "/healthz" ? "ok" : "taken");
});

server.listen(0, "127.0.0.1", () => {
  console.error(`listening on 127.0.0.1:${server.address().port}`);
});
