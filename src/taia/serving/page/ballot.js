// Where the vote is cast.

export class Ballot {
  /**
   * @param {HTMLElement} section
   * @param {(index: ?number) => void} cast is told which column, or null for a tie
   */
  constructor(section, cast) {
    this.section = section;
    this.cast = cast;
  }

  /** @param {string[]} letters of the columns */
  open(letters) {
    const choices = letters.map((letter, index) => [String(index + 1), letter, index]);
    const buttons = [...choices, ["0", "Tie", null]].map(([key, label, index]) => {
      const button = document.createElement("button");
      const kbd = document.createElement("kbd");
      kbd.textContent = key;
      button.type = "button";
      button.setAttribute("aria-keyshortcuts", key);
      button.append(label, " ", kbd);
      button.addEventListener("click", () => this.cast(index));
      return button;
    });
    this.section.querySelector(".choices").replaceChildren(...buttons);
    this.section.hidden = false;
    // Digits typed next vote: they must not land in the prompt.
    this.section.focus({ preventScroll: true });
  }

  close() {
    this.section.hidden = true;
  }

  /** @param {string} key a digit */
  press(key) {
    if (this.section.hidden) return;
    this.section.querySelector(`[aria-keyshortcuts="${key}"]`)?.click();
  }
}
