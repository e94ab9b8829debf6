// Which of the server's modes get a column.

import { mark } from "./marks.js";
import { keep, recall } from "./store.js";

const NAME = "hidden";

export class Modes {
  /**
   * @param {HTMLFieldSetElement} fieldset
   * @param {() => void} changed
   */
  constructor(fieldset, changed) {
    this.fieldset = fieldset;
    this.all = [];
    fieldset.addEventListener("change", (event) => {
      // A page without columns can do nothing.
      if (!this.chosen.length) event.target.checked = true;
      const hidden = this.all.filter((mode) => !this.chosen.includes(mode));
      keep(NAME, hidden.map(({ id }) => id));
      changed();
    });
  }

  /** @param {{id: string, selection: string}[]} all */
  fill(all) {
    this.all = all.map((mode, place) => ({ ...mode, place }));
    const hidden = recall(NAME, []);
    const rest = all.filter(({ id }) => !hidden.includes(id));
    this.boxes = this.all.map(({ id }) => {
      const box = document.createElement("input");
      box.type = "checkbox";
      box.value = id;
      box.checked = !rest.length || !hidden.includes(id);
      return box;
    });
    const labels = this.all.map(({ id, place }) => {
      const label = document.createElement("label");
      label.className = "check";
      label.append(this.boxes[place], mark(place), id);
      return label;
    });
    this.fieldset.replaceChildren(this.fieldset.querySelector("legend"), ...labels);
  }

  get chosen() {
    return this.all.filter(({ place }) => this.boxes[place].checked);
  }

  /**
   * A mode by its name, also one that this server does not have.
   *
   * @param {{mode: string, selection: string}} answer
   * @param {number} index of the answer in its round
   */
  of({ mode, selection }, index) {
    const known = this.all.find(({ id }) => id === mode);
    return { id: mode, selection, place: known?.place ?? this.all.length + index };
  }
}
