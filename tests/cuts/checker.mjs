// Whether what was promised about rooms was kept, judged from what was recorded while everything was being cut.
//
// A record has a `turn`, of the recorder's event loop, and is one of
//
//   { type: "sent", client, room, n }                             it was handed to send(); n counts up for each client
//   { type: "acknowledged", client, room, n, position }           send() was answered
//   { type: "joined", client, room, position }                    the first join was answered
//   { type: "received", client, room, from, n, position }         for await gave it out
//   { type: "history_lost" | "room_lost", client, room }          said to that client
//
// The rules, for every receiver in every room that it joined:
//
//   1. Each message follows on the one before, or on the join. One that does not, or is of another epoch, is allowed once after
//      `history_lost`, as the next message. What is said in the same turn may be recorded in either order.
//   2. In one epoch no message comes twice and no sender's messages change places.
//   3. What comes was sent to that room, and all who hear of a position hear the same.
//   4. When all is quiet, everyone has all that was acknowledged last: up to the top of the room.

/** What was broken, in words; empty when nothing was. */
export function check(history) {
  const broken = [];
  const sent = new Map();
  const places = new Map();
  const seats = new Map();
  const tops = new Map();
  const key = (...parts) => parts.join(" ");
  const say = (rule, record) => broken.push(`${rule}: ${JSON.stringify(record)}`);

  /** Everyone who names a place means the same message. */
  const place = (record, from, n) => {
    const { room, position: { epoch, offset } } = record;
    const at = key(room, epoch, offset);
    if (!places.has(at)) places.set(at, key(from, n));
    else if (places.get(at) !== key(from, n)) say(`another message was at that position: ${places.get(at)}`, record);
  };

  for (const record of history) {
    const { type, client, room, n, position, turn } = record;
    const seat = seats.get(key(client, room));
    switch (type) {
      case "sent":
        sent.set(key(client, n), room);
        break;
      case "acknowledged":
        if (sent.get(key(client, n)) !== room) say("acknowledged, and never sent", record);
        place(record, client, n);
        if (position.epoch !== tops.get(room)?.epoch || position.offset > tops.get(room).offset) tops.set(room, position);
        break;
      case "joined":
        seats.set(key(client, room), { client, room, last: position, latest: new Map(), epochs: new Set([position.epoch]) });
        break;
      case "history_lost":
        if (seat) seat.lostIn = turn;
        break;
      case "room_lost":
        // Nothing is owed any more.
        seats.delete(key(client, room));
        break;
      case "received": {
        const { from } = record;
        if (sent.get(key(from, n)) !== room) say("not sent to that room", record);
        place(record, from, n);
        if (!seat) {
          say("not in that room", record);
          break;
        }
        const { last } = seat;
        const follows = position.epoch === last.epoch && position.offset === last.offset + 1;
        const isBack = position.epoch === last.epoch ? position.offset <= last.offset : seat.epochs.has(position.epoch);
        if (isBack) say(`it was over, after ${last.epoch} ${last.offset}`, record);
        else if (!follows && seat.lostIn === undefined) say(`lost without a word, after ${last.epoch} ${last.offset}`, record);
        // What was said in this turn may be about the next message.
        if (!follows || (seat.lostIn !== undefined && seat.lostIn < turn)) seat.lostIn = undefined;
        if (position.epoch !== last.epoch) seat.latest.clear();
        seat.epochs.add(position.epoch);
        if (n <= (seat.latest.get(from) ?? 0)) say(`after ${seat.latest.get(from)} of that sender`, record);
        seat.latest.set(from, n);
        seat.last = position;
        break;
      }
      default:
        say("what is that?", record);
    }
  }

  for (const { client, room, last } of seats.values()) {
    const top = tops.get(room);
    if (top && (last.epoch !== top.epoch || last.offset < top.offset)) {
      say(`the end is missing, from ${last.epoch} ${last.offset} to`, { client, room, position: top });
    }
  }
  return broken;
}
