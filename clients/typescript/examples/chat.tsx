// A component that says why, as a front end writes it.

import type { Client } from "@saywhy/client";
import { useConnection } from "@saywhy/client/react";
import type { ReactNode } from "react";

/** What a front end has around it. */
export interface App {
  readonly token: () => Promise<string>;
  readonly Room: (props: { readonly chat: Client; readonly me: string | undefined }) => ReactNode;
}

export function component({ token, Room }: App): () => ReactNode {
  function Chat() {
    const { client, ready, error, waiting, reconnect } = useConnection("wss://example.com/ws", { token });
    if (client && ready) return <Room chat={client} me={ready.user} />;
    return <p>{error?.message ?? "Connecting"} {waiting && <button onClick={reconnect}>Try now</button>}</p>;
  }
  return Chat;
}
