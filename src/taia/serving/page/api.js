// The server's OpenAI-compatible API: which modes there are, and an answer as it is written.

import { events } from "./sse.js";

const BASE = new URL("v1/", document.baseURI);

/** What went wrong, and what to do about it. */
export class ApiError extends Error {
  /**
   * @param {string} problem
   * @param {string} mend empty where the problem says it, too
   * @param {number} status of HTTP; 0 where there was no answer
   * @param {?number} after seconds until the server wants to be asked again, where it says so
   */
  constructor(problem, mend, status = 0, after = null) {
    super(problem);
    Object.assign(this, { mend, status, after });
  }
}

/**
 * @param {string} key an API key, or ""
 * @returns {Promise<{id: string, selection: string}[]>} the modes, in the server's order
 */
export async function models(key) {
  const response = await ask("models", { key });
  const { data } = await response.json();
  return data.map(({ id, selection }) => ({ id, selection: selection ?? "" }));
}

/**
 * One answer, piece by piece.
 *
 * @param {object} request the body, without what makes it a stream
 * @param {{key: string, signal: AbortSignal}} options
 * @returns {AsyncGenerator<{text: string, finish: ?string, tokens: ?number}>} tokens: of the answer
 *   so far, where the server says so
 */
export async function* chat(request, { key, signal }) {
  const body = { ...request, stream: true, stream_options: { include_usage: true } };
  const response = await ask("chat/completions", { key, signal, body });
  let finished = false;
  try {
    for await (const data of events(response.body)) {
      if (data === "[DONE]") return;
      const { error, choices, usage } = JSON.parse(data);
      if (error) throw new ApiError(error.message, "", 500);
      const choice = choices?.[0];
      finished ||= Boolean(choice?.finish_reason);
      yield {
        text: choice?.delta?.content ?? "",
        finish: choice?.finish_reason ?? null,
        tokens: usage?.completion_tokens ?? null,
      };
    }
  } catch (error) {
    if (error instanceof ApiError || error.name === "AbortError") throw error;
    throw broken();
  }
  if (!finished) throw broken();
}

async function ask(path, { key, signal, body }) {
  const headers = {};
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(new URL(path, BASE), {
      method: body ? "POST" : "GET",
      headers,
      body: body && JSON.stringify(body),
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server cannot be reached.", "Look whether taia serve still runs.");
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

async function refusal(response) {
  const { status } = response;
  if (status === 401) {
    return new ApiError("The server asks for an API key.", "Enter the one it was started with.", status);
  }
  const after = seconds(response.headers.get("Retry-After"));
  if (status === 429) {
    const wait = after === null ? "in a little while" : `in ${after} s`;
    return new ApiError("The server has too much to do.", `Try again ${wait}.`, status, after);
  }
  return response.json().then(
    ({ error }) => new ApiError(error.message, "", status, after),
    () => new ApiError(`The server answered ${status}.`, "Its log says why.", status, after),
  );
}

/** What Retry-After says, a number or a date. */
function seconds(header) {
  if (header === null) return null;
  if (/^\d+$/.test(header)) return Number(header);
  const until = Math.ceil((Date.parse(header) - Date.now()) / 1000);
  return until > 0 ? until : null;
}

function broken() {
  return new ApiError("The answer broke off.", "Look whether taia serve still runs, and try again.");
}
