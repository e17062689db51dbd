// Shows the messages of a conversation, with the buttons to copy, edit and regenerate them.

import { $, copyText, growing, icon, iconButton, make } from "./dom.js";
import { markdown, MarkdownStream } from "./markdown.js";

/** Pixels from the end within which the conversation counts as scrolled down. */
const NEAR = 48;

/** Changes the conversation, and stays at its end unless the user has scrolled up. */
export function keepDown(change) {
  const log = $("log");
  const down = log.scrollHeight - log.scrollTop - log.clientHeight < NEAR;
  change();
  if (down) log.scrollTop = log.scrollHeight;
}

/** Shows all messages. `actions` has the functions edit, regenerate and show. */
export function showMessages(conversation, actions) {
  const shown = conversation.path().map((message) => messageOf(conversation, message, actions));
  $("log").replaceChildren(...shown);
  $("log").scrollTop = $("log").scrollHeight;
}

/** Adds a message to those shown. */
export function addMessage(conversation, message, actions) {
  const shown = messageOf(conversation, message, actions);
  keepDown(() => $("log").append(shown));
  return shown;
}

function messageOf(conversation, message, actions) {
  const isUser = message.role === "user";
  const body = make("div", { className: isUser ? "bubble" : "prose" });
  const article = make("article", {
    className: `message ${message.role}`,
    data: { id: message.id },
    aria: { label: isUser ? "You" : (message.model ?? "Model") },
  });
  if (!isUser && message.reasoning) article.append(thoughts(message.reasoning, message.reasoningSeconds));
  article.append(body);
  if (isUser) body.textContent = message.content;
  else body.append(markdown(message.content));
  article.append(footOf(conversation, message, actions, article));
  return article;
}

/** What is below a message: versions, buttons, numbers. */
function footOf(conversation, message, actions, article) {
  const isUser = message.role === "user";
  const copy = iconButton("copy", "Copy", () => copyText(message.content, copy));
  const change = isUser
    ? iconButton("edit", "Edit", () => edit(article, message, actions))
    : iconButton("redo", "Regenerate", () => actions.regenerate(message));
  const foot = make("div", { className: "foot" }, versionsOf(conversation, message, actions), copy, change);
  const note = message.note ?? (isUser ? "" : "interrupted");
  if (note) foot.append(make("span", { className: "count numbers" }, note));
  return foot;
}

function versionsOf(conversation, message, actions) {
  const all = conversation.versions(message);
  if (all.length < 2) return null;
  const index = all.indexOf(message);
  const step = (name, label, to) => {
    const button = iconButton(name, label, () => actions.show(all[to]));
    button.disabled = !all[to];
    return button;
  };
  return make(
    "span",
    { className: "versions numbers" },
    step("left", "Previous version", index - 1),
    `${index + 1}/${all.length}`,
    step("right", "Next version", index + 1),
  );
}

/** Replaces a question by a field to edit it. */
function edit(article, message, actions) {
  const old = [...article.childNodes];
  const close = () => {
    article.replaceChildren(...old);
    article.querySelector(".foot .icon:last-of-type")?.focus();
  };
  const field = make("textarea", { rows: 1, aria: { label: "Edit the message" } });
  const form = make(
    "form",
    {
      className: "edit",
      onsubmit: (event) => {
        event.preventDefault();
        if (field.value.trim()) actions.edit(message, field.value.trim());
      },
    },
    field,
    make("p", { className: "faint" }, "The old version is kept."),
    make("button", { type: "button", onclick: close }, "Cancel"),
    make("button", { className: "primary" }, "Send"),
  );
  form.onkeydown = (event) => {
    if (event.key === "Escape") {
      event.stopPropagation();
      close();
    } else if (isSend(event)) {
      event.preventDefault();
      form.requestSubmit();
    }
  };
  article.replaceChildren(form);
  growing(field)(message.content);
  field.focus();
}

/** Whether a key sends what was typed. */
export const isSend = (event) => event.key === "Enter" && !event.shiftKey && !event.isComposing;

/** Folded reasoning. */
function thoughts(text, seconds) {
  const title = seconds === undefined ? "Thinking…" : `Thought for ${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  return make(
    "details",
    { className: "thoughts" },
    make("summary", {}, icon("right"), make("span", {}, title)),
    make("div", { className: "prose" }, markdown(text)),
  );
}

/** An answer that is being written. */
export class GrowingAnswer {
  #conversation;
  #message;
  #actions;
  #article;
  #body;
  #stream;
  #details = null;
  #thoughts = null;
  #thoughtSince = 0;

  constructor(conversation, message, actions) {
    [this.#conversation, this.#message, this.#actions] = [conversation, message, actions];
    this.#body = make("div", { className: "prose" });
    this.#article = make(
      "article",
      { className: "message assistant", data: { id: message.id }, aria: { label: message.model, busy: "true" } },
      this.#body,
    );
    this.#stream = new MarkdownStream(this.#body, keepDown);
    keepDown(() => $("log").append(this.#article));
  }

  addReasoning(text) {
    if (!this.#details) {
      this.#thoughtSince = performance.now();
      this.#details = thoughts("");
      this.#thoughts = new MarkdownStream(this.#details.lastElementChild, keepDown);
      keepDown(() => this.#article.prepend(this.#details));
    }
    this.#message.reasoning = (this.#message.reasoning ?? "") + text;
    this.#thoughts.append(text);
  }

  add(text) {
    this.#endThoughts();
    this.#message.content += text;
    this.#stream.append(text);
  }

  #endThoughts() {
    if (!this.#details || this.#message.reasoningSeconds !== undefined) return;
    this.#message.reasoningSeconds = (performance.now() - this.#thoughtSince) / 1000;
    this.#thoughts.end();
    const title = thoughts("", this.#message.reasoningSeconds).querySelector("summary");
    this.#details.querySelector("summary").replaceWith(title);
  }

  /** Shows the buttons below the answer. */
  end() {
    this.#endThoughts();
    this.#stream.end();
    this.#article.ariaBusy = null;
    keepDown(() => this.#article.append(footOf(this.#conversation, this.#message, this.#actions, this.#article)));
  }

  remove() {
    this.#article.remove();
  }
}

/** A notice at the end of the conversation. An error is read out at once. */
export function addNotice(text, wrong = false, action = undefined) {
  const notice = make("div", { className: wrong ? "notice wrong" : "notice" }, make("p", {}, text));
  notice.setAttribute("role", wrong ? "alert" : "status");
  if (action) notice.append(make("button", { type: "button", onclick: () => (notice.remove(), action.run()) }, action.name));
  keepDown(() => $("log").append(notice));
}

/** Copies a code block. One listener serves all of them. */
export function listenForCopies() {
  $("log").addEventListener("click", (event) => {
    const button = event.target.closest?.(".copy-code");
    if (button) copyText(button.closest(".code").querySelector("code").textContent, button);
  });
}
