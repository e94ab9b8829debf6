// A round: a prompt, its settings and the modes' answers. History keeps it and a link carries it.

/**
 * @typedef {object} Answer
 * @property {string} mode
 * @property {string} selection what the mode keeps of the update
 * @property {string} text
 * @property {number} tokens
 * @property {number} seconds from sending to the last token
 * @property {string} finish "stop", "length", "stopped" by the reader, or "error"
 *
 * @typedef {object} Round
 * @property {string} created when, in ISO 8601
 * @property {string} prompt
 * @property {string} system
 * @property {number} temperature
 * @property {number} max_tokens
 * @property {?number} seed
 * @property {Answer[]} answers
 */

const ANSWER = {
  mode: "string",
  selection: "string",
  text: "string",
  tokens: "number",
  seconds: "number",
  finish: "string",
};
const ROUND = {
  created: "string",
  prompt: "string",
  system: "string",
  temperature: "number",
  max_tokens: "number",
};

/**
 * A round out of what somebody else wrote.
 *
 * @param {any} value
 * @returns {Round} with nothing in it that does not belong there
 * @throws {TypeError} if something is missing or of another kind
 */
export function readRound(value) {
  const seed = value?.seed ?? null;
  if (seed !== null && typeof seed !== "number") throw new TypeError("seed");
  if (!Array.isArray(value?.answers)) throw new TypeError("answers");
  return { ...pick(value, ROUND), seed, answers: value.answers.map((each) => pick(each, ANSWER)) };
}

/**
 * @param {Round} round
 * @param {string} mode
 * @returns {object} what the API is asked
 */
export function question(round, mode) {
  const messages = [{ role: "user", content: round.prompt }];
  if (round.system) messages.unshift({ role: "system", content: round.system });
  const { temperature, max_tokens } = round;
  const request = { model: mode, messages, temperature, max_tokens };
  return round.seed === null ? request : { ...request, seed: round.seed };
}

function pick(value, kinds) {
  return Object.fromEntries(
    Object.entries(kinds).map(([name, kind]) => {
      if (typeof value?.[name] !== kind) throw new TypeError(name);
      return [name, value[name]];
    }),
  );
}
