// What the playground asks of its own server, beside the sockets.

/** Where things are; `null` when this server runs without the playground. */
export async function readInfo() {
  try {
    const response = await fetch("/dev/info");
    return response.ok ? await response.json() : null;
  } catch {
    return null;
  }
}

const ROOMS = {
  lobby: ["join", "send", "history", "members"],
  closed: ["join", "send"],
  "no-such-room": ["join"],
};

export async function mintToken(sub, { expires_in_s = 3600 } = {}) {
  const { token } = await post("/dev/token", { sub, expires_in_s, rooms: ROOMS });
  return token;
}

/** A browser cannot set headers on a WebSocket, so the token travels as an offered subprotocol. */
export function offer(token) {
  return ["saywhy.v1", `saywhy.bearer.${token}`];
}

export function kick(info, connectionId, message) {
  return request(`${info.api}/connections/${encodeURIComponent(connectionId)}`, "DELETE", { message }, {
    authorization: `Bearer ${info.key}`,
  });
}

export function restart(connectionId, retry_after_ms, spread_ms) {
  return post("/dev/restart", { connection_id: connectionId, retry_after_ms, spread_ms });
}

function post(path, body) {
  return request(path, "POST", body);
}

async function request(path, method, body, headers = {}) {
  const response = await fetch(path, {
    method,
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw new Error(`${method} ${path} was answered with ${response.status}`);
  return response.headers.get("content-type")?.includes("json") ? response.json() : null;
}
