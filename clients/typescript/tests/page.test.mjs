// The life of a page, as the client sees it: hidden, shown, asleep, without a network. In virtual time.
import assert from "node:assert/strict";
import test from "node:test";
import { systemNetwork, systemPage } from "../dist/platform.js";
import { start } from "./support/fake.mjs";

/** One whose last attempts failed, so that the next one is `delayMs` away. */
async function backingOff(options) {
  const world = start(options);
  for (let failures = 0; failures < 4; failures += 1) {
    if (failures > 0) await world.clock.pass(world.told("waiting").at(-1).delayMs);
    world.socket.end(1006);
  }
  return world;
}

const told = (world) => world.told("waiting").at(-1).delayMs;

test("who looks again does not sit a backoff out, and does not come at the same instant as others either", async () => {
  const world = await backingOff();
  assert.deepEqual([told(world), world.sockets.length], [4_000, 4]);
  world.page.hide();
  await world.clock.pass(1_000);
  world.page.show();
  assert.deepEqual([world.chat.state, told(world), world.told("waiting").at(-1).attempt], ["waiting", 600, 4]);
  await world.clock.pass(599);
  assert.equal(world.sockets.length, 4);
  await world.clock.pass(1);
  assert.equal(world.sockets.length, 5);
});

test("a wait that is nearly over is not made longer", async () => {
  const world = await backingOff();
  await world.clock.pass(3_900);
  world.page.show();
  await world.clock.pass(100);
  assert.equal(world.sockets.length, 5);
});

test("what the server asked for has to pass, whoever looks", async () => {
  const world = start();
  world.socket.error({ code: 1013, name: "overloaded", fatal: true, retry: "after", retry_after_ms: 10_000 });
  world.socket.end(1013);
  await world.clock.pass(4_000);
  world.page.hide();
  world.page.show();
  await world.clock.pass(5_999);
  assert.equal(world.sockets.length, 1);
  await world.clock.pass(1);
  assert.equal(world.sockets.length, 2);
});

test("a page that nobody has looked at for a minute is not connected again until somebody does", async () => {
  const world = start();
  world.socket.ready({ heartbeat_ms: 0 });
  world.page.hide();
  await world.clock.pass(59_000);
  world.socket.end(1006);
  assert.equal(told(world), 500);
  await world.clock.pass(500);
  assert.equal(world.sockets.length, 2);
  await world.clock.pass(600);
  world.socket.end(1006);
  assert.deepEqual([world.chat.state, told(world)], ["waiting", Infinity]);
  await world.clock.pass(10_000_000);
  assert.equal(world.sockets.length, 2);
  world.page.show();
  assert.deepEqual([world.chat.state, told(world)], ["waiting", 600]);
  await world.clock.pass(600);
  assert.equal(world.sockets.length, 3);
});

test("one that is hidden for a minute while it waits waits on", async () => {
  const world = start();
  world.socket.error({ code: 1013, name: "overloaded", fatal: true, retry: "after", retry_after_ms: 70_000 });
  world.page.hide();
  world.socket.end(1013);
  await world.clock.pass(70_000);
  assert.deepEqual([told(world), world.sockets.length], [Infinity, 1]);
  world.page.show();
  await world.clock.pass(600);
  assert.equal(world.sockets.length, 2);
});

test("a page that was opened in the background is connected, and stays so", async () => {
  const world = start({ page: { isHidden: () => true, onChange: () => () => {} } });
  world.socket.ready();
  await world.clock.pass(20_000);
  assert.equal(world.chat.state, "ready");
});

test("a page without a network that nobody looks at waits for both", async () => {
  const world = start();
  world.network.up = false;
  world.page.hide();
  world.socket.end(1006);
  assert.equal(world.chat.state, "offline");
  await world.clock.pass(100_000);
  world.network.comeBack();
  assert.deepEqual([world.chat.state, told(world)], ["waiting", Infinity]);
  world.network.up = false;
  world.page.show();
  world.page.show();
  assert.equal(world.chat.state, "offline");
  assert.equal(world.told("offline").length, 2);
  world.network.comeBack();
  await world.clock.pass(600);
  assert.equal(world.sockets.length, 2);
});

test("a connection that died in its sleep is found out when somebody looks, also by a clock that slept too", async () => {
  const world = start();
  world.socket.ready();
  world.page.hide();
  world.page.show();
  assert.deepEqual(world.socket.sent, [{ type: "ping", data: {} }]);
  await world.clock.pass(4_999);
  assert.equal(world.chat.state, "ready");
  await world.clock.pass(1);
  const [{ cause }] = world.told("waiting");
  assert.equal(cause.message, "The connection was given up: nothing was heard from the server for 5000 ms");
});

test("one that lives is kept, and asked again at the next heartbeat", async () => {
  const world = start();
  world.socket.ready();
  await world.clock.pass(10_000);
  world.network.comeBack();
  world.socket.say({ type: "pong", data: {} });
  await world.clock.pass(24_999);
  assert.deepEqual([world.chat.state, world.socket.asked("ping").length], ["ready", 1]);
  await world.clock.pass(1);
  assert.equal(world.socket.asked("ping").length, 2);
});

test("one without heartbeats is asked all the same, and left alone afterwards", async () => {
  const world = start();
  world.socket.ready({ heartbeat_ms: 0 });
  await world.clock.pass(10_000);
  world.page.show();
  world.socket.say({ type: "pong", data: {} });
  await world.clock.pass(10_000_000);
  assert.deepEqual([world.chat.state, world.socket.sent.length], ["ready", 1]);
});

test("a server that works on a request may be silent for a heartbeat longer", async () => {
  const world = start();
  world.socket.ready();
  const reply = world.chat.request("pay", 1, { timeoutMs: 60_000 });
  await world.clock.pass(10_000);
  world.page.show();
  await world.clock.pass(20_000);
  assert.equal(world.chat.state, "ready");
  world.socket.ok("pay", { paid: true });
  assert.deepEqual(await reply, { ok: true, data: { paid: true } });
});

test("looking again and again asks once in 5 s, whether that is answered or not", async () => {
  for (const [isAnswered, pings] of [[true, 12], [false, 1]]) {
    const world = start({ random: () => 0.99 });
    world.socket.ready();
    const { socket } = world;
    for (let ms = 0; ms < 60_000; ms += 10) {
      world.page.show();
      if (isAnswered && socket.sent.length > 0) socket.say({ type: "pong", data: {} });
      await world.clock.pass(10);
    }
    assert.equal(socket.sent.length, pings);
    assert.equal(socket.isOver || socket.closed !== undefined, !isAnswered);
  }
});

/** When a server is contacted in 20 s that ends every connection at once, while something happens every 10 ms. */
async function contacts(shake) {
  const world = start({ random: () => 0.99 });
  const atMs = [];
  for (let ms = 0; ms < 20_000; ms += 10) {
    if (world.sockets.length > atMs.length) {
      atMs.push(ms);
      world.socket.end(1006);
    }
    shake(world);
    await world.clock.pass(10);
  }
  return atMs;
}

test("nobody can storm a server by looking again and again, nor by a network that comes and goes", async () => {
  const calm = await contacts(() => {});
  assert.equal(calm.length, 5);
  for (const shake of [
    ({ page }) => (page.hide(), page.show()),
    ({ network }) => network.comeBack(),
    ({ network, page }) => ((network.up = false), page.hide(), network.comeBack(), page.show()),
  ]) {
    const shaken = await contacts(shake);
    assert.ok(shaken[4] < calm[4], `waking up is of use: ${shaken}`);
    assert.ok(shaken.length <= 6, `${shaken}`);
  }
});

test("a crowd that has its network back at one instant comes spread out", async () => {
  const firsts = [];
  for (let client = 0; client < 1_000; client += 1) {
    const world = start({ random: () => client / 1_000 });
    world.network.up = false;
    world.socket.end(1006);
    await world.clock.pass(60_000);
    world.network.comeBack();
    firsts.push(told(world));
    world.chat.close();
  }
  const inOne100Ms = new Array(11).fill(0);
  for (const ms of firsts) inOne100Ms[Math.floor(ms / 100)] += 1;
  assert.deepEqual(inOne100Ms, [0, ...new Array(10).fill(100)]);
});

test("a client that is closed listens to nothing any more", async () => {
  for (const end of [({ chat }) => chat.close(), ({ socket }) => socket.end(4008)]) {
    const world = start();
    assert.equal(world.listeners(), 2);
    end(world);
    assert.equal(world.listeners(), 0);
  }
});

test("the platform's own page and network: what a browser fires, and that workers and servers have none", () => {
  assert.deepEqual([systemPage.isHidden(), systemNetwork.isOnline()], [false, true]);
  systemPage.onChange(() => {})();
  const target = new EventTarget();
  const heard = [];
  const names = { addEventListener: target.addEventListener.bind(target), removeEventListener: target.removeEventListener.bind(target) };
  Object.assign(globalThis, names, { document: { visibilityState: "hidden" } });
  try {
    assert.equal(systemPage.isHidden(), true);
    const undo = [systemPage.onChange(() => heard.push("page")), systemNetwork.onOnline(() => heard.push("network"))];
    for (const type of ["visibilitychange", "pageshow", "resume", "online", "pagehide", "freeze"]) target.dispatchEvent(new Event(type));
    for (const act of undo) act();
    for (const type of ["visibilitychange", "online"]) target.dispatchEvent(new Event(type));
  } finally {
    for (const name of [...Object.keys(names), "document"]) delete globalThis[name];
  }
  assert.deepEqual(heard, ["page", "page", "page", "network"]);
});
