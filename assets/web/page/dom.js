// Elements and icons.

export const $ = (id) => document.getElementById(id);

/** An element: `make("button", { className: "quiet", aria: { label: "Copy" }, onclick }, icon("copy"), "Copy")`. */
export function make(tag, { data = {}, aria = {}, ...properties } = {}, ...children) {
  const made = document.createElement(tag);
  Object.assign(made, properties);
  Object.assign(made.dataset, data);
  for (const [name, value] of Object.entries(aria)) made.setAttribute(`aria-${name}`, value);
  made.append(...children.filter((child) => child != null && child !== false));
  return made;
}

/** A button with an icon and a name that is also its tooltip. */
export function iconButton(name, label, onclick, className = "icon") {
  return make("button", { type: "button", className, title: label, aria: { label }, onclick }, icon(name));
}

const SVG = "http://www.w3.org/2000/svg";
const PATHS = {
  check: "M5 12.5l4.5 4.500L19 7.500",
  close: "M6 6l12 12M18 6L6 18",
  copy: "M9 9h10a1 1 0 0 1 1 1v9a1 1 0 0 1-1 1h-10a1 1 0 0 1-1-1v-9a1 1 0 0 1 1-1zM4 15v-10a1 1 0 0 1 1-1h10",
  down: "M6 9l6 6 6-6",
  download: "M12 4v11M7 10.500l5 5 5-5M5 20h14",
  edit: "M4 20h4l11-11-4-4-11 11zM13 7l4 4",
  gauge: "M4.500 18a9 9 0 1 1 15 0M12 14l4-5",
  left: "M15 6l-6 6 6 6",
  menu: "M4 7h16M4 12h16M4 17h16",
  plus: "M12 5v14M5 12h14",
  redo: "M20 12a8 8 0 1 1-2.500-5.800M20 4v5h-5",
  right: "M9 6l6 6-6 6",
  search: "M10.500 4a6.500 6.500 0 1 0 0 13a6.500 6.500 0 1 0 0-13M15.500 15.500l4.500 4.500",
  send: "M12 19v-14M6 11l6-6 6 6",
  sliders: "M4 8h9M17 8h3M15 6v4M4 16h3M11 16h9M9 14v4",
  stop: "M8 8h8v8h-8z",
  trash: "M5 7h14M10 7v-3h4v3M7 7l1 13h8l1-13",
};

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

/** Puts icons into the elements of the document that name one: `<button data-icon="plus">`. */
export function drawIcons() {
  for (const element of document.querySelectorAll("[data-icon]")) element.prepend(icon(element.dataset.icon));
}

/** Lets a text field grow with its text where CSS does not do that. Returns a function that sets its text. */
export function growing(field) {
  const fit = () => {
    field.style.height = "auto";
    field.style.height = `${field.scrollHeight + 2}px`;
  };
  const needed = !CSS.supports("field-sizing", "content");
  if (needed) field.addEventListener("input", fit);
  return (text) => {
    field.value = text;
    if (needed) fit();
  };
}

/** Shows a message at the bottom for some seconds, with a button to undo what it says. */
export function toast(text, action, undo) {
  const close = () => shown.remove();
  const button =
    undo &&
    make("button", { type: "button", className: "quiet", onclick: () => (close(), undo()) }, action);
  const shown = make("div", { className: "toast" }, make("span", {}, text), button);
  $("toasts").replaceChildren(shown);
  setTimeout(close, undo ? 10_000 : 4000);
}

/** Asks a question with two answers. */
export function confirmed(question, yes) {
  const dialog = $("question");
  $("question-text").textContent = question;
  $("question-yes").textContent = yes;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => (dialog.onclose = () => resolve(dialog.returnValue === "yes")));
}

/** Copies a text, and says so on the button. */
export async function copyText(text, button) {
  try {
    await navigator.clipboard.writeText(text);
    const old = [...button.childNodes];
    button.replaceChildren(icon("check"), ...old.filter((node) => node.nodeName !== "svg"));
    setTimeout(() => button.replaceChildren(...old), 1500);
  } catch (error) {
    toast(`The browser did not allow copying: ${error.message}`);
  }
}

/** Offers a text as a file. */
export function saveText(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
