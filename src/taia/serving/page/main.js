// Puts the page together.

import { models } from "./api.js";
import { Ballot } from "./ballot.js";
import { Board } from "./board.js";
import { Comparison } from "./comparison.js";
import { apiKey, askForKey, copy, showHistory } from "./dialogs.js";
import { past, remember } from "./history.js";
import { listen } from "./keys.js";
import { Modes } from "./modes.js";
import { Settings } from "./settings.js";
import { fromLink, link, markdown } from "./share.js";
import { keep, recall } from "./store.js";
import { showTally, wireTally } from "./tally.js";
import { clearTrouble, showTrouble } from "./trouble.js";
import { cast } from "./vote.js";

const $ = (selector) => document.querySelector(selector);
const say = (text) => ($("#status").textContent = text);

const composer = $("#composer");
const settings = new Settings(composer);
const board = new Board($("#columns"), $("#tabs"));
const modes = new Modes($("#modes"), () => {
  comparison.lay(modes.chosen);
  showDifferences();
});
const ballot = new Ballot($("#ballot"), vote);
const comparison = new Comparison(board, { key: apiKey, remedy, changed: show, settled });

function remedy(error, retry) {
  if (error.status === 401) return { label: "Enter the key", run: () => askForKey(retry) };
  return { label: "Try again", run: retry };
}

/** Which buttons can be pressed now. */
function show() {
  const { running, voting, shown } = comparison;
  $("#send").disabled = running;
  $("#stop").disabled = !running;
  modes.fieldset.disabled = running || voting;
  for (const button of [$("#copy-link"), $("#copy-markdown")]) button.disabled = !shown;
  if (running) say("Asking…");
  if (!voting) ballot.close();
  if (shown) showDifferences();
}

function showDifferences() {
  if (comparison.shown) board.compare($("#reference").value, $("#gone").checked);
}

function settled(round) {
  remember(round);
  const ends = round.answers.map(({ finish }) => finish);
  if (ends.includes("error")) say("Not every mode has answered.");
  else if (ends.includes("stopped")) say("Stopped.");
  else if (comparison.voting) say("All answers are there. Which is best?");
  else say(`All ${ends.length} answers are there.`);
  if (comparison.voting) ballot.open(board.columns.map(({ letter }) => letter));
}

function vote(index) {
  const ballotPaper = comparison.vote(index);
  cast(ballotPaper);
  showTally($("#tally"), modes.all);
  const { best } = ballotPaper;
  say(best.length ? `Counted for ${best.join(" and ")}.` : "Counted as a tie.");
  $("#tally").focus({ preventScroll: true });
}

function restore(round) {
  if (comparison.running) return;
  settings.write(round);
  comparison.restore(round, round.answers.map((answer, index) => modes.of(answer, index)));
}

/** @param {number} step 1 to an older round, -1 to a newer one */
function leaf(step) {
  const rounds = past();
  const now = rounds.findIndex(({ created }) => created === comparison.round?.created);
  const round = rounds[Math.max(0, now + step)];
  if (!round || comparison.running) return;
  restore(round);
  say(`From the history: ${rounds.indexOf(round) + 1} of ${rounds.length}.`);
}

async function openLink() {
  try {
    const round = await fromLink(location.hash);
    if (!round) return;
    restore(round);
    say("From a link.");
  } catch {
    say("The link cannot be read. It may have been cut off: ask for it again.");
  }
}

async function start() {
  clearTrouble($("#trouble"));
  try {
    modes.fill(await models(apiKey()));
  } catch (error) {
    // The server is there before its model is.
    if (error.status === 503 && error.after) {
      say("The model is still being loaded. The page goes on by itself.");
      setTimeout(() => modes.all.length || (started = start()), 1000 * error.after);
    } else {
      showTrouble($("#trouble"), error, remedy(error, start));
    }
    return;
  }
  const wanted = recall("reference", "base");
  const options = modes.all.map(({ id }) => new Option(id, id, false, id === wanted));
  $("#reference").replaceChildren(new Option("nothing", ""), ...options);
  board.lay(modes.chosen);
  showTally($("#tally"), modes.all);
  show();
  say("Write a prompt, then press Ctrl+Enter.");
  await openLink();
}

async function send() {
  // A quick reader may be done before the modes are here; or the server was gone, and is back.
  await started;
  if (!modes.all.length) await (started = start());
  if (comparison.running || !modes.all.length) return;
  // The link's round is no longer what is shown.
  if (location.hash) history.replaceState(null, "", location.pathname + location.search);
  comparison.send(settings.read(), modes.chosen);
  // On a phone the answers are below what can be seen.
  if ($("#columns").getBoundingClientRect().top > innerHeight / 2) $("#status").scrollIntoView();
}

composer.addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
$("#stop").addEventListener("click", () => comparison.stop());
$("#reference").addEventListener("change", (event) => {
  keep("reference", event.target.value);
  showDifferences();
});
$("#gone").addEventListener("change", showDifferences);
$("#copy-link").addEventListener("click", async () => {
  if (await copy(await link(comparison.shown))) say("The link is in the clipboard.");
});
$("#copy-markdown").addEventListener("click", async () => {
  if (await copy(markdown(comparison.shown))) say("The Markdown is in the clipboard.");
});
$("#open-history").addEventListener("click", () => showHistory(restore));
$("#open-key").addEventListener("click", () => askForKey(start));
$("#open-help").addEventListener("click", () => $("#help").showModal());
addEventListener("hashchange", openLink);
wireTally($("#tally"), () => showTally($("#tally"), modes.all));

const plain = (event) => !event.ctrlKey && !event.metaKey && !event.altKey;
listen(
  [
    {
      shown: "Ctrl+Enter",
      does: "send",
      is: (event) => event.key === "Enter" && (event.ctrlKey || event.metaKey),
      run: () => composer.requestSubmit(),
      typing: true,
    },
    {
      shown: "Escape",
      does: "stop every answer",
      is: (event) => event.key === "Escape" && comparison.running,
      run: () => comparison.stop(),
      typing: true,
    },
    {
      shown: "1 … 9",
      does: "vote for a column; 0 is a tie",
      is: (event) => /^[0-9]$/.test(event.key) && plain(event),
      run: (event) => ballot.press(event.key),
    },
    {
      shown: "Alt+↑",
      does: "an older round",
      is: (event) => event.key === "ArrowUp" && event.altKey,
      run: () => leaf(1),
      typing: true,
    },
    {
      shown: "Alt+↓",
      does: "a newer round",
      is: (event) => event.key === "ArrowDown" && event.altKey,
      run: () => leaf(-1),
      typing: true,
    },
    {
      shown: "/",
      does: "to the prompt",
      is: (event) => event.key === "/" && plain(event),
      run: () => composer.elements.prompt.focus(),
    },
    {
      shown: "?",
      does: "these keys",
      is: (event) => event.key === "?" && plain(event),
      run: () => $("#help").showModal(),
    },
  ],
  $("#help dl"),
);

let started = start();
