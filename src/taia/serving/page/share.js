// A round as a link that needs no server to keep it, and as Markdown.

import { readRound } from "./round.js";

const START = "#round=";
/** A small link can unpack to a great deal; no answers are this long. */
const MOST_BYTES = 8_000_000;
/** A name that Markdown takes as it is. */
const WORD = /^[A-Za-z0-9]+(-[A-Za-z0-9]+)*$/;

/**
 * @param {import("./round.js").Round} round
 * @returns {Promise<string>} this page's address with the round packed into the fragment
 */
export async function link(round) {
  const packed = through(new CompressionStream("deflate-raw"), new TextEncoder().encode(JSON.stringify(round)));
  const url = new URL(location.href);
  url.hash = START + toText(await collect(packed, Infinity));
  return url.href;
}

/**
 * @param {string} fragment of an address
 * @returns {Promise<?import("./round.js").Round>} null if there is none in it
 * @throws {Error} if there is one that cannot be read
 */
export async function fromLink(fragment) {
  if (!fragment.startsWith(START)) return null;
  const unpacked = through(new DecompressionStream("deflate-raw"), toBytes(fragment.slice(START.length)));
  return readRound(JSON.parse(new TextDecoder().decode(await collect(unpacked, MOST_BYTES))));
}

/**
 * @param {import("./round.js").Round} round
 * @returns {string} texts in fences and names in code, so that their own Markdown changes nothing
 */
export function markdown(round) {
  const seed = round.seed === null ? "" : `, seed ${round.seed}`;
  const parts = [`Temperature ${round.temperature}, at most ${round.max_tokens} tokens${seed}.`];
  if (round.system) parts.push("**System prompt**", fenced(round.system));
  parts.push("**Prompt**", fenced(round.prompt));
  for (const { mode, selection, text, tokens, seconds, finish } of round.answers) {
    const kept = selection && selection !== mode ? ` (${code(selection)})` : "";
    const end = finish === "stop" ? "" : `, ended by: ${WORD.test(finish) ? finish : code(finish)}`;
    const name = WORD.test(mode) ? `**${mode}**` : code(mode);
    parts.push(`${name}${kept}: ${tokens} tokens, ${seconds.toFixed(1)} s${end}`, fenced(text));
  }
  return parts.join("\n\n") + "\n";
}

function fenced(text) {
  const fence = "`".repeat(Math.max(3, ticks(text)));
  return `${fence}text\n${text}\n${fence}`;
}

/** A name that cannot end its own line, or turn the words after it round. */
function code(name) {
  const shown = name.replace(/\p{C}|[\u2028\u2029]/gu, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);
  const mark = "`".repeat(ticks(shown));
  return /^`|`$|^$/.test(shown) ? `${mark} ${shown} ${mark}` : `${mark}${shown}${mark}`;
}

/** How many backticks in a row a text does not have. */
function ticks(text) {
  return (text.match(/`+/g) ?? []).reduce((most, { length }) => Math.max(most, length), 0) + 1;
}

function through(transform, bytes) {
  return new Blob([bytes]).stream().pipeThrough(transform);
}

async function collect(stream, most) {
  const chunks = [];
  let size = 0;
  for (const reader = stream.getReader(); ; ) {
    const { value, done } = await reader.read();
    if (done) return new Uint8Array(await new Blob(chunks).arrayBuffer());
    chunks.push(value);
    size += value.length;
    if (size > most) {
      reader.cancel();
      throw new RangeError("too long");
    }
  }
}

function toText(bytes) {
  const binary = Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

function toBytes(text) {
  return Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
}
