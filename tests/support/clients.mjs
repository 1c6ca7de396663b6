// Clients that are no browsers, and not ours. Each is `{ name, missing(), ask(wanted) }`:
//
// `missing` resolves to what has to be there and is not; undefined if all is.
// `wanted` is { url: "http://…", headers, version = 13, plain = false }: a handshake with these headers, or a plain GET.
// `ask` resolves to { status, headers: names in lower case, body: text }. A client that has no way to ask for such a thing
// says so: `cannot(wanted)`.
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import WebSocket from "ws";
import { call } from "./client.mjs";

/** All headers of a handshake, for those that do not know what a WebSocket is. */
function byHand({ headers, version = 13, plain }) {
  if (plain) return headers;
  const key = randomBytes(16).toString("base64");
  return { Connection: "Upgrade", Upgrade: "websocket", "Sec-WebSocket-Version": String(version), "Sec-WebSocket-Key": key, ...headers };
}

/** What a program prints; rejects, with what it complained of, when it fails. */
function run(program, args, options = {}) {
  return new Promise((resolve, reject) => {
    execFile(program, args, { encoding: "utf8", timeout: 60_000, ...options }, (error, stdout, stderr) => {
      if (error) reject(new Error(`${program}: ${error.message}\n${stderr}`));
      else resolve(stdout);
    });
  });
}
const works = (program, args) => run(program, args).then(() => true, () => false);

const curl = {
  name: "curl",
  async ask(wanted) {
    const headers = Object.entries(byHand(wanted)).flatMap(([name, value]) => ["-H", `${name}: ${value}`]);
    const said = await run("curl", ["-q", "-sS", "-i", "--http1.1", "--noproxy", "*", ...headers, wanted.url]);
    const end = said.indexOf("\r\n\r\n");
    const [line, ...fields] = said.slice(0, end).split("\r\n");
    const pairs = fields.map((field) => [field.slice(0, field.indexOf(":")).toLowerCase(), field.slice(field.indexOf(":") + 1).trim()]);
    return { status: Number(line.split(" ")[1]), headers: Object.fromEntries(pairs), body: said.slice(end + 4) };
  },
};

const nodeHttp = {
  name: "Node's http",
  async ask(wanted) {
    const { status, headers, text } = await call(wanted.url, "GET", undefined, byHand(wanted));
    return { status, headers, body: text };
  },
};

const ws = {
  name: "Node's ws",
  cannot: ({ plain }) => plain && "asks for nothing but WebSockets",
  ask: ({ url, headers, version = 13 }) =>
    new Promise((resolve, reject) => {
      const socket = new WebSocket(url.replace(/^http/, "ws"), { headers, protocolVersion: version });
      socket.on("error", reject);
      socket.on("open", () => reject(new Error("it was let in")));
      socket.on("unexpected-response", (_, response) => {
        let body = "";
        response.setEncoding("utf8").on("data", (chunk) => (body += chunk));
        response.on("end", () => resolve({ status: response.statusCode, headers: response.headers, body }));
      });
    }),
};

const lowercase = (headers) => Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
const printed = (text) => {
  const { headers, ...rest } = JSON.parse(text);
  return { ...rest, headers: lowercase(headers) };
};

const HTTP_CLIENT = `
import http.client, json, sys
from urllib.parse import urlsplit
url, headers = urlsplit(sys.argv[1]), json.loads(sys.argv[2])
connection = http.client.HTTPConnection(url.netloc, timeout=30)
connection.request("GET", url.path, headers=headers)
response = connection.getresponse()
print(json.dumps({"status": response.status, "headers": dict(response.getheaders()), "body": response.read().decode()}))
`;
const python = {
  name: "Python's http.client",
  ask: async (wanted) => printed(await run("python3", ["-c", HTTP_CLIENT, wanted.url, JSON.stringify(byHand(wanted))])),
};

const WEBSOCKETS = `
import json, sys
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
try:
    connect(sys.argv[1], additional_headers=json.loads(sys.argv[2]), open_timeout=30)
except InvalidStatus as refused:
    response = refused.response
    print(json.dumps({"status": response.status_code, "headers": dict(response.headers.raw_items()), "body": response.body.decode()}))
`;
const websockets = {
  name: "Python's websockets",
  missing: async () => ((await works("python3", ["-c", WEBSOCKETS.split("try:")[0]])) ? undefined : "the package websockets"),
  cannot: ({ plain, version = 13 }) => (plain || version !== 13) && "asks for nothing but WebSockets of version 13",
  ask: async ({ url, headers }) =>
    printed(await run("python3", ["-c", WEBSOCKETS, url.replace(/^http/, "ws"), JSON.stringify(headers)])),
};

const NET_HTTP = `package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	request, err := http.NewRequest("GET", os.Args[1], nil)
	must(err)
	var headers map[string]string
	must(json.Unmarshal([]byte(os.Args[2]), &headers))
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	must(err)
	body, err := io.ReadAll(response.Body)
	must(err)
	said := map[string]string{}
	for name := range response.Header {
		said[name] = response.Header.Get(name)
	}
	must(json.NewEncoder(os.Stdout).Encode(map[string]any{"status": response.StatusCode, "headers": said, "body": string(body)}))
}
`;
let built;
/** Compiled once; the standard library is all that it needs, so nothing is fetched. */
function goProgram() {
  return (built ??= (async () => {
    const directory = mkdtempSync(join(tmpdir(), "saywhy-go-"));
    process.on("exit", () => rmSync(directory, { recursive: true, force: true }));
    writeFileSync(join(directory, "main.go"), NET_HTTP);
    const env = { ...process.env, CGO_ENABLED: "0", GOFLAGS: "", GOPROXY: "off", GOWORK: "off" };
    await run("go", ["build", "-o", "client", "main.go"], { cwd: directory, env, timeout: 300_000 }); // the library too, the first time
    return join(directory, "client");
  })());
}
const go = {
  name: "Go's net/http",
  missing: async () => ((await works("go", ["version"])) ? undefined : "go"),
  ask: async (wanted) => printed(await run(await goProgram(), [wanted.url, JSON.stringify(byHand(wanted))])),
};

export const clients = [curl, nodeHttp, ws, python, websockets, go];
