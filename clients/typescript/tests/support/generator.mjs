// Random input with a seed that is printed: SAYWHY_SEED=… plays it again, SAYWHY_CASES=… plays more of it.

const seed = Number(process.env.SAYWHY_SEED ?? Math.floor(Math.random() * 2 ** 32));
const CASES = Number(process.env.SAYWHY_CASES ?? 2_000);

/** Even random numbers in [0, 1): mulberry32. */
export function seeded(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** What cases are made of. */
export class Generator {
  constructor(seed) {
    this.random = seeded(seed);
  }

  /** A whole number from `low` to `high`. */
  whole(low, high) {
    return low + Math.floor(this.random() * (high - low + 1));
  }

  one(all) {
    return all[this.whole(0, all.length - 1)];
  }

  /** It, or nothing, as often. */
  perhaps(make) {
    return this.random() < 0.5 ? make() : undefined;
  }

  list(length, make) {
    return Array.from({ length }, make);
  }
}

/** Checks a property for many cases. What fails says which case of which seed it was. */
export function forAll(check, cases = CASES) {
  for (let number = 0; number < cases; number += 1) {
    try {
      check(new Generator(seed + number));
    } catch (error) {
      error.message = `SAYWHY_SEED=${seed + number} SAYWHY_CASES=1: ${error.message}`;
      throw error;
    }
  }
}
