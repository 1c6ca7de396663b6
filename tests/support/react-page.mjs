// What runs in the page of tests/client-react.test.mjs: real React, in its development build, and the hooks.
import { Activity, Component, StrictMode, act, createElement, useEffect, useState } from "react";
import { createRoot, hydrateRoot } from "react-dom/client";
import { renderToString } from "react-dom/server";
import { connect } from "@saywhy/client";
import { useConnection, usePlainConnection } from "@saywhy/client/react";
import { TestServer } from "@saywhy/client/testing";

globalThis.IS_REACT_ACT_ENVIRONMENT = true;

/** What every effect on mounting and unmounting makes of it, and strict mode two of. */
function useNaive(url, options) {
  const [state, setState] = useState("connecting");
  useEffect(() => {
    const client = connect(url, options);
    const undo = client.on("state", (change) => setState(change.state));
    return () => {
      undo();
      void client.close();
    };
  }, [url]);
  return { state };
}

/** Mounts a component that uses `hook`; `renderings` has what it was given, each time. */
async function mount({ hook = useConnection, url = "wss://test/one", options, markup } = {}) {
  const server = new TestServer();
  const renderings = [];
  let caught;
  const Chat = ({ url, options }) => {
    const seen = hook(url, { ...server.platform, ...options });
    renderings.push({ url, ...seen });
    return createElement("p", null, seen.state);
  };
  class Boundary extends Component {
    state = { failed: false };
    static getDerivedStateFromError = () => ({ failed: true });
    componentDidCatch(error) {
      caught = error;
    }
    render() {
      return this.state.failed ? null : this.props.children;
    }
  }
  const tree = ({ mode = "visible", ...props }) => {
    const chat = createElement(Boundary, null, createElement(Activity, { mode }, createElement(Chat, props)));
    return createElement(StrictMode, null, chat);
  };
  const place = document.body.appendChild(document.createElement("div"));
  let root;
  if (markup) {
    place.innerHTML = renderToString(tree({ url, options }));
    await act(async () => (root = hydrateRoot(place, tree({ url, options }))));
  } else {
    root = createRoot(place);
    await act(async () => root.render(tree({ url, options })));
  }
  await act(() => server.clock.pass(0));
  return {
    server,
    renderings,
    get last() {
      return renderings.at(-1);
    },
    get caught() {
      return caught;
    },
    text: () => place.textContent,
    /** Lets time pass, and React draw what comes of it. */
    pass: (ms = 0) => act(() => server.clock.pass(ms)),
    render: (props) => act(async () => root.render(tree({ url, options, ...props }))),
    unmount: () => act(async () => root.unmount()),
  };
}

const closesOf = (server) => Promise.all(server.connections.map(({ left }) => Promise.race([left, "still here"])));

/** By name; each resolves to facts that the test compares. */
globalThis.scenarios = {
  async "strict mode opens one, and keeps it"() {
    const page = await mount();
    const [session] = page.server.connections;
    session.ready({ user: "bob" });
    await page.pass(60_000);
    const { state, ready, client } = page.last;
    return { connections: page.server.connections.length, closes: await closesOf(page.server), state, user: ready.user, isSame: client.state === state, text: page.text() };
  },

  async "a naive hook opens two in strict mode"() {
    const page = await mount({ hook: useNaive });
    return { connections: page.server.connections.length };
  },

  async "unmounted, it is closed"() {
    const page = await mount();
    page.server.connections[0].ready();
    await page.pass();
    const { client } = page.last;
    await page.unmount();
    await page.server.clock.pass(60_000);
    return { connections: page.server.connections.length, closes: await closesOf(page.server), client: client.state, isIdle: page.server.clock.isIdle };
  },

  async "unmounted at once, nothing stays"() {
    const page = await mount({ url: null });
    await page.render({ url: "wss://test/one" });
    await page.unmount();
    await page.server.clock.pass(60_000);
    return { closes: await closesOf(page.server), isIdle: page.server.clock.isIdle };
  },

  async "another URL is another connection, and none is none"() {
    const page = await mount();
    page.server.connections[0].ready();
    await page.pass();
    const before = page.renderings.length;
    await page.render({ url: "wss://test/two" });
    await page.pass();
    const states = page.renderings.slice(before).map(({ url, state }) => `${url.at(-3)}${url.at(-2)}${url.at(-1)} ${state}`);
    page.server.connections[1].ready();
    await page.pass();
    const facts = { states: [...new Set(states)], urls: page.server.connections.map(({ url }) => url), closes: await closesOf(page.server), state: page.last.state };
    await page.render({ url: null });
    await page.pass();
    const { client, state, error } = page.last;
    return { ...facts, none: { client: client === undefined, state, error: error === undefined }, closesThen: await closesOf(page.server) };
  },

  async "other options change nothing but the token"() {
    const asked = [];
    const page = await mount({ options: { token: () => asked.push("first") && "t1" } });
    page.server.connections[0].ready();
    await page.pass();
    await page.render({ options: { token: () => asked.push("second") && "t2" } });
    page.server.connections[0].authExpiring();
    await page.pass();
    return { connections: page.server.connections.length, asked };
  },

  async "hidden, it is closed; shown, there is another"() {
    const page = await mount();
    page.server.connections[0].ready();
    await page.pass();
    await page.render({ mode: "hidden" });
    await page.pass(60_000);
    const facts = { connections: page.server.connections.length, closes: await closesOf(page.server) };
    await page.render({ mode: "visible" });
    await page.pass();
    page.server.connections[1].ready({ user: "eve" });
    await page.pass();
    const { state, ready, client } = page.last;
    return { ...facts, state, user: ready.user, isThere: client !== undefined, closesThen: await closesOf(page.server) };
  },

  async "what happens is seen"() {
    const page = await mount();
    const facts = [];
    const note = () => {
      const { state, ready, error, waiting } = page.last;
      facts.push([state, ready?.user ?? null, error?.name ?? null, waiting ?? null]);
    };
    note();
    const { server } = page;
    server.connections[0].ready();
    await page.pass();
    note();
    server.connections[0].restart({ retryAfterMs: 2_000, spreadMs: 0 });
    await page.pass();
    note();
    await page.pass(2_000);
    note();
    server.connections[1].ready({ user: "eve" });
    await page.pass();
    note();
    server.network.goOffline();
    server.connections[1].drop();
    await page.pass();
    note();
    await act(() => server.network.goOnline());
    await page.pass(30_000);
    server.connections[2].refuse("forbidden");
    await page.pass();
    note();
    await act(async () => page.last.reconnect());
    await page.pass();
    note();
    server.connections[3].ready();
    await page.pass();
    note();
    const { reconnect } = page.last;
    return { facts, connections: server.connections.length, closes: await closesOf(server), isStable: page.renderings.every((seen) => seen.reconnect === reconnect) };
  },

  async "a platform without a WebSocket is an error"() {
    const { WebSocket } = globalThis;
    delete globalThis.WebSocket;
    try {
      const page = await mount({ options: { WebSocket: undefined } });
      return { state: page.last.state, error: page.last.error.name };
    } finally {
      globalThis.WebSocket = WebSocket;
    }
  },

  async "an address that is none goes to the error boundary"() {
    const page = await mount({ url: "ftp://test/" });
    return { caught: page.caught?.name, connections: page.server.connections.length };
  },

  async "on a server nothing is connected, and in the page it is taken over"() {
    const markup = renderToString(createElement(() => createElement("p", null, useConnection("wss://test/").state)));
    const page = await mount({ markup: true });
    page.server.connections[0].ready();
    await page.pass();
    return { markup, connections: page.server.connections.length, text: page.text() };
  },

  async "a server of another kind"() {
    const page = await mount({ hook: usePlainConnection, options: { protocols: ["chat"] } });
    const [session] = page.server.connections;
    session.accept();
    await page.pass();
    const { state, ready } = page.last;
    await page.unmount();
    await page.server.clock.pass(60_000);
    return { offered: session.protocols, state, ready, closes: await closesOf(page.server) };
  },
};

/** Over a real socket: resolves when the page has an open connection, to how many it made for that. */
globalThis.mountOnSocket = (url, isNaive) =>
  new Promise((resolve) => {
    globalThis.IS_REACT_ACT_ENVIRONMENT = false;
    let made = 0;
    globalThis.WebSocket = class extends WebSocket {
      constructor(...args) {
        super(...args);
        made += 1;
      }
    };
    const Chat = () => {
      const { state } = (isNaive ? useNaive : useConnection)(url);
      useEffect(() => {
        if (state === "ready") resolve(made);
      }, [state]);
      return null;
    };
    createRoot(document.body).render(createElement(StrictMode, null, createElement(Chat)));
  });
