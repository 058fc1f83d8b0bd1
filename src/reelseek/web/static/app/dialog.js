// The one dialog of the page.
import { by, fill, h, iconButton } from "./dom.js";

/** @param {string} title @param {...any} content */
export function openDialog(title, ...content) {
  const dialog = by("dialog");
  fill(
    dialog,
    h(
      "div",
      { class: "dialog-head" },
      h("h2", { id: "dialog-title" }, title),
      iconButton("close", "Close (Esc)", closeDialog, { bare: true }),
    ),
    ...content,
  );
  if (!dialog.open) dialog.showModal();
  return dialog;
}

export function closeDialog() {
  if (by("dialog").open) by("dialog").close();
}

export const dialogOpen = () => by("dialog").open;

/** Ask for a line of text. @param {string} title @param {string} label @param {string} [value] @returns {Promise<string|null>} */
export function askText(title, label, value = "") {
  return new Promise((resolve) => {
    const input = h("input", { type: "text", value, maxlength: "200", required: true, autocomplete: "off" });
    let answer = null;
    const form = h(
      "form",
      {
        class: "fields",
        onsubmit: (/** @type {Event} */ event) => {
          event.preventDefault();
          answer = input.value.trim() || null;
          closeDialog();
        },
      },
      h("label", { class: "field" }, h("span", {}, label), input),
      h("button", {}, "OK"),
    );
    openDialog(title, form).addEventListener("close", () => resolve(answer), { once: true });
    input.focus();
  });
}

/** Ask before something that cannot be taken back. @param {string} title @param {string} words @param {string} act @returns {Promise<boolean>} */
export function confirm(title, words, act) {
  return new Promise((resolve) => {
    let answer = false;
    const dialog = openDialog(
      title,
      h("p", {}, words),
      h(
        "div",
        { class: "row" },
        h(
          "button",
          {
            type: "button",
            onclick: () => {
              answer = true;
              closeDialog();
            },
          },
          act,
        ),
        h("button", { type: "button", class: "quiet", onclick: closeDialog }, "Cancel"),
      ),
    );
    dialog.addEventListener("close", () => resolve(answer), { once: true });
  });
}
