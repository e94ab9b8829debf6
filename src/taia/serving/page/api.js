// The server's OpenAI-compatible API: which modes there are, and an answer as it is written.

import { events } from "./sse.js";

const BASE = new URL("v1/", document.baseURI);

/** What went wrong, and what to do about it. */
export class ApiError extends Error {
  /**
   * @param {string} problem
   * @param {string} mend empty where the problem says it, too
   * @param {number} status of HTTP; 0 where there was no answer
   */
  constructor(problem, mend, status = 0) {
    super(problem);
    this.mend = mend;
    this.status = status;
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
  if (status === 429) {
    return new ApiError("The server has too much to do.", patience(response.headers), status);
  }
  return response.json().then(
    ({ error }) => new ApiError(error.message, "", status),
    () => new ApiError(`The server answered ${status}.`, "Its log says why.", status),
  );
}

function patience(headers) {
  const after = headers.get("Retry-After");
  const seconds = /^\d+$/.test(after ?? "") ? Number(after) : (Date.parse(after) - Date.now()) / 1000;
  return seconds > 0 ? `Try again in ${Math.ceil(seconds)} s.` : "Try again in a little while.";
}

function broken() {
  return new ApiError("The answer broke off.", "Look whether taia serve still runs, and try again.");
}
