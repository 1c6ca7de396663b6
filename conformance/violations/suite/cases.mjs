// The cases, as bytes. README.md has the notation.
import { readFileSync } from "node:fs";

/** Of RFC 6455 §5.7, so that a payload that was not unmasked is noticed. */
const KEY = Buffer.from("37fa213d", "hex");

const all = JSON.parse(readFileSync(new URL("../cases.json", import.meta.url), "utf8"));

/** The limit for which the cases about size are made. */
export const MESSAGE_BYTES = all.message_bytes;

/**
 * What a "client" or a "server" can do wrong: { name, section, answer, bytes, closes, isCut }. One that `closes` has a
 * Close among its frames; in one that `isCut` the last frame has no end, so that no Close of ours can be found behind it.
 */
export function casesOf(sender) {
  return all.cases.filter((one) => (one.sender ?? sender) === sender).map((one) => ({
    ...one,
    bytes: Buffer.concat(one.send.map((frame) => wire(frame, sender))),
    closes: one.send.some(isClose),
    isCut: one.send.at(-1).declares !== undefined,
  }));
}

function isClose({ head }) {
  return (parseInt(head, 16) & 15) === 8;
}

function wire({ head, hex = "", text = "", times = 1, length, declares, masked }, sender) {
  const payload = Buffer.concat(Array(times).fill(Buffer.concat([Buffer.from(hex, "hex"), Buffer.from(text)])));
  const isMasked = masked ?? sender === "client";
  const first = Buffer.from(head, "hex");
  const written = lengthBytes(declares === undefined ? BigInt(payload.length) : BigInt(`0x${declares}`), length);
  written[0] |= isMasked ? 0x80 : 0;
  if (!isMasked) return Buffer.concat([first, written, payload]);
  return Buffer.concat([first, written, KEY, payload.map((byte, at) => byte ^ KEY[at % 4])]);
}

function lengthBytes(length, bits = length < 126n ? "7" : length < 65536n ? "16" : "64") {
  if (bits === "7") return Buffer.from([Number(length)]);
  const bytes = Buffer.alloc(bits === "16" ? 3 : 9);
  bytes[0] = bits === "16" ? 126 : 127;
  if (bits === "16") bytes.writeUInt16BE(Number(length), 1);
  else bytes.writeBigUInt64BE(length, 1);
  return bytes;
}

/** An unfragmented frame, as `sender` has to write it. */
export function frame(opcode, payload, sender) {
  return wire({ head: (0x80 | opcode).toString(16), hex: Buffer.from(payload).toString("hex") }, sender);
}
