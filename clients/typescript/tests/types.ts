// What has to compile, and what must not. Checked by `npm run check`; never run.

import {
  connect,
  connectPlain,
  diagnose,
  type Client,
  type Message,
  type Position,
  type SaywhyError,
  type State,
} from "../src/index.js";
import { useConnection, usePlainConnection } from "../src/react.js";
import { TestServer } from "../src/testing.js";

export async function requests(): Promise<void> {
  const chat = connect(new URL("wss://example.com/ws"), { WebSocket, signal: AbortSignal.timeout(1_000) });

  const joined = await chat.request("join", { room: "lobby" }, { timeoutMs: 1_000 });
  if (joined.ok) joined.data.position satisfies Position;
  else joined.error satisfies SaywhyError;

  const history = await chat.request("history", { room: "lobby", limit: 10 });
  if (history.ok) history.data.messages satisfies readonly Message[];

  // An application's own requests take anything, and are answered with something unknown.
  const drawn = await chat.request("draw", { shape: "circle" });
  if (drawn.ok) {
    drawn.data satisfies unknown;
    // @ts-expect-error: it has to be looked at first
    drawn.data.shape;
  }
  await chat.request("clear");

  // @ts-expect-error: a room is needed
  await chat.request("join", { rom: "lobby" });
  // @ts-expect-error: a room is needed
  await chat.request("leave");
  // @ts-expect-error: there is no such event
  chat.on("redy", () => {});
  // @ts-expect-error: an error may be one of the server's own, and its name is text all the same
  joined.ok || (joined.error.name satisfies 4003);

  chat.on("closed", ({ cause, close }) => {
    switch (cause.name) {
      case "kicked":
      case "unauthorized":
      case "room_full":
        break;
    }
    close?.code satisfies number | undefined;
  });
  for await (const { body } of chat) body satisfies unknown;
}

export async function plain(): Promise<void> {
  const feed = connectPlain("wss://example.com/feed", { WebSocket, protocols: ["a", "b"], diagnose });
  feed.on("data", (data) => (typeof data === "string" ? data.length : data.byteLength) satisfies number);
  feed.write(new Uint8Array(1)) satisfies "sent" | "queued";
  (await feed.ready()).protocol satisfies string;
  // @ts-expect-error: a plain server has no rooms
  feed.request("join", { room: "lobby" });
  // @ts-expect-error: a Saywhy server has no data of that kind
  connect("wss://example.com/ws").on("data", () => {});
  // @ts-expect-error: what to offer to a Saywhy server is this client's business
  connect("wss://example.com/ws", { protocols: "a" });
}

export async function tests(): Promise<void> {
  const server = new TestServer({ random: () => 0.5 });
  connect("wss://test/ws", { ...server.platform, signal: AbortSignal.timeout(1_000) });
  connectPlain("wss://test/ws", server.platform);
  // Code that knows no client can be given it in the place of the platform's.
  globalThis.WebSocket = server.WebSocket;
  new server.WebSocket("wss://test/ws", "chat").addEventListener("close", ({ code, wasClean }) => {
    code satisfies number;
    wasClean satisfies boolean;
  });

  const session = await server.connection();
  session.refuse("unauthorized", { details: { reason: "token_missing" } });
  session.refuse("room_full", { code: 4100 });
  // @ts-expect-error: there is no such policy
  session.refuse("unauthorized", { retry: "later" });
  session.ready({ user: "alice" });

  const join = await session.request("join");
  join.data.room satisfies string;
  join.ok();
  // @ts-expect-error: a join is answered with a position, too
  join.ok({ room: "lobby" });
  const drawn = await session.request("draw");
  // @ts-expect-error: it has to be looked at first
  drawn.data.shape;
  (await session.request()).type satisfies string;

  (await session.left)?.code satisfies number | undefined;
  await server.clock.pass(1_000);
}

export function components(): void {
  const { client, state, ready, error, waiting, reconnect } = useConnection("wss://example.com/ws", { token: () => "t" });
  client satisfies Client | undefined;
  state satisfies State;
  ready?.user satisfies string | undefined;
  error satisfies SaywhyError | undefined;
  waiting?.delayMs satisfies number | undefined;
  reconnect();
  usePlainConnection(null, { protocols: "chat" }).client?.close();
  // @ts-expect-error: this one speaks nothing in particular
  usePlainConnection("wss://example.com/ws").client?.request("join", { room: "lobby" });
  // @ts-expect-error: it may not be there yet
  client.close();
}
