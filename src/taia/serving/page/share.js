// A round as a link that needs no server to keep it, and as Markdown.

import { readRound } from "./round.js";

const START = "#round=";
/** A small link can unpack to a great deal; no answers are this long. */
const MOST_BYTES = 8_000_000;

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
 * @returns {string} texts in fences, so that their own Markdown changes nothing
 */
export function markdown(round) {
  const seed = round.seed === null ? "" : `, seed ${round.seed}`;
  const parts = [`Temperature ${round.temperature}, at most ${round.max_tokens} tokens${seed}.`];
  if (round.system) parts.push("**System prompt**", fenced(round.system));
  parts.push("**Prompt**", fenced(round.prompt));
  for (const { mode, selection, text, tokens, seconds, finish } of round.answers) {
    const kept = selection && selection !== mode ? ` (\`${selection}\`)` : "";
    const end = finish === "stop" ? "" : `, ended by: ${finish}`;
    parts.push(`**${mode}**${kept}: ${tokens} tokens, ${seconds.toFixed(1)} s${end}`, fenced(text));
  }
  return parts.join("\n\n") + "\n";
}

function fenced(text) {
  const longest = Math.max(2, ...(text.match(/`+/g) ?? []).map((ticks) => ticks.length));
  const fence = "`".repeat(longest + 1);
  return `${fence}text\n${text}\n${fence}`;
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
