// Who is signed in, where the server asks for it.
import { request } from "./api.js";
import { by, fill, h, iconButton } from "./dom.js";
import { closeDialog, openDialog } from "./dialog.js";
import { session } from "./session.js";

/** A button that says who one is and signs out; null where there are no accounts. */
export function account() {
  const current = session();
  if (!current || current.name === "local") return null;
  return iconButton(
    "person",
    `Signed in as ${current.name}`,
    () =>
      openDialog(
        current.name,
        h("p", {}, `May: ${current.scopes.join(", ")}.`),
        h("button", { type: "button", onclick: signOut }, "Sign out"),
      ),
    { bare: true },
  );
}

async function signOut() {
  await request("DELETE", "/v1/session");
  closeDialog();
  location.reload();
}

/** Ask for name and password in place of the page. @param {() => void} entered */
export function showSignIn(entered) {
  if (by("sign-in")) return;
  const name = h("input", { type: "text", name: "name", autocomplete: "username", required: true, maxlength: "200" }),
    password = h("input", {
      type: "password",
      name: "password",
      autocomplete: "current-password",
      required: true,
      maxlength: "1000",
    });
  const refused = h("p", { class: "refused", role: "alert" });
  const form = h(
    "form",
    {
      class: "fields narrow",
      onsubmit: async (/** @type {Event} */ event) => {
        event.preventDefault();
        try {
          await request("POST", "/v1/session", { body: { name: name.value, password: password.value } });
          entered();
        } catch (error) {
          refused.textContent = /** @type {Error} */ (error).message;
          password.select();
        }
      },
    },
    h("label", { class: "field" }, h("span", {}, "Name"), name),
    h("label", { class: "field" }, h("span", {}, "Password"), password),
    refused,
    h("button", {}, "Sign in"),
  );
  by("top").inert = true;
  fill(by("main"), h("section", { id: "sign-in", class: "empty" }, h("h1", {}, "Sign in"), form));
  name.focus();
}
