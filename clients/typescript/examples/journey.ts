// The way of a chat from its first connection to its end, as a front end writes it.

import { connect, type Message } from "@saywhy/client";

/** What a front end has around it. */
export interface Page {
  readonly auth: { token(): Promise<string> };
  readonly signal: AbortSignal;
  banner(text: string): void;
  toast(text: string): void;
  render(message: Message): void;
}

export async function journey({ auth, signal, banner, toast, render }: Page) {
  const chat = connect("wss://example.com/ws", { token: () => auth.token(), signal });
  chat.on("waiting", ({ cause, delayMs }) => banner(`${cause.message}; trying again in ${delayMs} ms`));
  await chat.ready();                                   // rejects with SaywhyError when refused
  const reply = await chat.request("join", { room: "lobby" });
  if (!reply.ok) toast(reply.error.message);            // recoverable: still connected
  for await (const message of chat) render(message);    // survives reconnects
  const ending = await chat.closed;                     // resolves, never rejects
  return ending;
}
