// The form of a prompt and its settings: read, filled in, and kept for the next visit.

import { keep, recall } from "./store.js";

const NAME = "settings";
const FIELDS = ["prompt", "system", "temperature", "max_tokens", "seed"];

export class Settings {
  /** @param {HTMLFormElement} form */
  constructor(form) {
    this.form = form;
    this.write(recall(NAME, {}));
    form.addEventListener("input", () => keep(NAME, this.read()));
  }

  /** @returns {object} a round's prompt and settings, and whether it is voted on blind */
  read() {
    const field = this.form.elements;
    return {
      prompt: field.prompt.value,
      system: field.system.value.trim(),
      temperature: field.temperature.valueAsNumber,
      max_tokens: field.max_tokens.valueAsNumber,
      seed: field.seed.value === "" ? null : field.seed.valueAsNumber,
      blind: field.blind.checked,
    };
  }

  /** @param {object} values some or all of what `read` gives */
  write(values) {
    for (const name of FIELDS) {
      if (name in values) this.form.elements[name].value = values[name] ?? "";
    }
    if ("blind" in values) this.form.elements.blind.checked = values.blind;
    if (values.system) document.querySelector("#system-box").open = true;
  }
}
