// What the checks with Node share: a list of checks, and what they hold things against.
import { isDeepStrictEqual } from "node:util";

const checks = [];
export const check = (name, body) => checks.push([name, body]);

export const short = (value) => {
  const text = typeof value === "string" ? value : JSON.stringify(value) ?? String(value);
  return text.length > 600 ? `${text.slice(0, 300)} … ${text.slice(-300)}` : text;
};
export function equal(what, came, expected) {
  if (!isDeepStrictEqual(came, expected)) throw new Error(`${what}: expected ${short(expected)}, came ${short(came)}`);
}
export function true_(what, fact, came) {
  if (!fact) throw new Error(`${what}: came ${short(came)}`);
}
/** Returns the error, which has to be of exactly this class; of any class if none is given. */
export async function raises(kind, promise) {
  let answer;
  try {
    answer = await promise;
  } catch (error) {
    if (kind && error.constructor !== kind) throw new Error(`expected ${kind.name}, came ${error.constructor.name}: ${short(error.message)}`);
    return error;
  }
  throw new Error(`expected ${kind?.name ?? "an error"}, came an answer: ${short(answer)}`);
}

/** Runs the list, prints a line for each, and exits 1 if any failed. Arguments choose by part of a name. */
export async function run() {
  let failed = 0;
  const wanted = process.argv.slice(2);
  const chosen = checks.filter(([name]) => !wanted.length || wanted.some((part) => name.includes(part)));
  for (const [name, body] of chosen) {
    try {
      await body();
      console.log(`ok    ${name}`);
    } catch (error) {
      failed++;
      console.log(`FAIL  ${name}\n      ${error.message}`);
    }
  }
  console.log(`${chosen.length - failed} passed, ${failed} failed`);
  process.exit(failed || !chosen.length ? 1 : 0);
}
