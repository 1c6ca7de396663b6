// What the scenarios play on: the real server, a hand that can stop it, and the files that a page needs, at one origin.
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createServer as createTcpServer } from "node:net";
import { fileURLToPath } from "node:url";
import { ALL, SECRET, call, serve, sign } from "../client.mjs";

const ROOT = new URL("../../../", import.meta.url);
const PUBLIC = /^\/(clients\/typescript\/dist|tests\/support\/runtimes)\/[\w-]+\.m?js$/;

/**
 * Sets it up for the test `t`; `server` is what the scenario needs: `hasOwnKey` for tokens that are good on the next server
 * too, `config` and `route` in TOML. Resolves to its URL, and to what `restart` does for those who have no network to ask over.
 */
export async function setStage(t, { hasOwnKey = false, config = "", route = "" } = {}) {
  const http = createServer(async (request, response) => {
    try {
      const [type, body] = await answer(request);
      response.setHeader("content-type", type).end(body);
    } catch (error) {
      response.writeHead(500).end(String(error.stack));
    }
  });
  await once(http.listen(0, "127.0.0.1"), "listening");
  t.after(() => http.close() && http.closeAllConnections());
  const stage = `http://127.0.0.1:${http.address().port}`;

  const hole = createTcpServer(() => {});
  await once(hole.listen(0, "127.0.0.1"), "listening");
  const fallen = new Set();
  hole.on("connection", (socket) => fallen.add(socket.on("error", () => {})));
  t.after(() => hole.close() && fallen.forEach((socket) => socket.destroy()));
  const holeUrl = `ws://127.0.0.1:${hole.address().port}`;

  const env = hasOwnKey ? { SAYWHY_TOKEN_SECRET: SECRET, SAYWHY_API_KEY: SECRET } : {};
  const toml = `${config}[[route]]\npath = "/ws"\norigins = ["${stage}"]\nrooms = { open = ["lobby"] }\n${route}`;
  let server = await serve(t, { env, config: toml });
  const mint = (sub, expires_in_s) =>
    hasOwnKey
      ? sign({ sub, exp: Math.floor(Date.now() / 1_000) + expires_in_s, rooms: { "*": ALL } })
      : server.mint(sub, { expires_in_s });
  let bob;

  const host = {
    mint: ({ sub, expires_in_s }) => mint(sub, expires_in_s),
    async restart(hint) {
      // Somebody stays, who can say something meanwhile.
      await host.say({ room: "lobby" });
      const { status } = await call(new URL("dev/restart", server.page), "POST", hint);
      return status;
    },
    async say({ room, body }) {
      bob ??= await server.open("bob", { token: await mint("bob", 3_600) }).then(async (session) => {
        await session.ok("join", { room });
        return session;
      });
      if (body !== undefined) await bob.ok("send", { room, body });
      return null;
    },
    kill: () => server.stop("SIGKILL"),
    async replace() {
      bob = undefined;
      await server.stop("SIGTERM");
      server = await serve(t, { env, config: toml, port: new URL(server.url).port });
      return null;
    },
    freeze: () => process.kill(server.pid, "SIGSTOP"),
    thaw: () => process.kill(server.pid, "SIGCONT"),
    ending: (id) => server.ending(id),
  };

  async function answer(request) {
    const { url } = request;
    const command = /^\/host\/(\w+)$/.exec(url)?.[1];
    if (Object.hasOwn(host, command)) {
      const said = Buffer.concat(await request.toArray());
      return ["application/json", JSON.stringify((await host[command](JSON.parse(said))) ?? null)];
    }
    if (PUBLIC.test(url)) return ["text/javascript", await readFile(fileURLToPath(new URL(`.${url}`, ROOT)))];
    if (url === "/server") return ["application/json", JSON.stringify({ server: server.url, hole: holeUrl })];
    if (url === "/") return ["text/html", '<!doctype html><link rel="icon" href="data:,">'];
    throw new Error(`there is no ${url}`);
  }
  return { stage, restart: host.restart };
}
