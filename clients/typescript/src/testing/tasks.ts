// Tasks, as a browser has them: what the network brings happens in its order, never inside a call of the page, and the
// promises that one event keeps are kept before the next event.

const queue: (() => void)[] = [];
/** Who waits until the queue is empty. */
const waiting: (() => void)[] = [];
let isRunning = false;

// Kept from the beginning: a test may put its own timers in the place of the platform's.
const { MessageChannel, setTimeout } = globalThis;

/** Runs `act` in a task of its own, after all that were queued before it. */
export function queueTask(act: () => void): void {
  queue.push(act);
  run();
}

/** Resolves when everything has happened that needs no time to pass: each event delivered, each promise kept. */
export function settled(): Promise<void> {
  return new Promise((resolve) => {
    waiting.push(resolve);
    run();
  });
}

function run(): void {
  if (isRunning) return;
  isRunning = true;
  inATask(() => {
    isRunning = false;
    const act = queue.shift();
    // The promises that the last one kept have been kept by now, and have queued nothing.
    if (!act) return waiting.splice(0).forEach((resolve) => resolve());
    if (queue.length + waiting.length > 0) run();
    act();
  });
}

/** Node's ports keep the process alive while they are wanted. */
type Port = MessagePort & { ref?(): void; unref?(): void };

let channel: { readonly port1: Port; readonly port2: Port } | undefined;

/** A channel is in every browser, worker and server, and is not slowed down in a hidden page. */
function inATask(act: () => void): void {
  // The pages that some test runners make up have none.
  if (!MessageChannel) return void setTimeout(act, 0);
  channel ??= new MessageChannel();
  const { port1, port2 } = channel;
  port1.onmessage = () => {
    port1.unref?.();
    act();
  };
  port1.ref?.();
  port2.postMessage(null);
}
