// The list of conversations: by age, searched by title, deleted with undo.

import { $, iconButton, make, toast } from "./dom.js";
import { Conversation } from "./conversation.js";
import { age } from "./format.js";

/** Where the list covers the page instead of standing beside it. */
const narrow = matchMedia("(max-width: 56rem)");

export class Sidebar {
  #store;
  #chat;
  #opened;
  #list = [];

  /** `opened` is called when the user chooses a conversation. */
  constructor(store, chat, opened) {
    [this.#store, this.#chat, this.#opened] = [store, chat, opened];
    $("menu").onclick = () => this.toggle(true);
    $("close-list").onclick = $("scrim").onclick = () => this.toggle(false);
    $("find").oninput = () => this.#draw();
    $("fresh").onclick = $("fresh-narrow").onclick = () => this.#open(new Conversation());
    narrow.onchange = () => this.toggle(false);
    this.toggle(false);
    addEventListener("keydown", (event) => {
      if (event.key === "Escape" && document.body.classList.contains("listing")) this.toggle(false);
    });
  }

  /** Shows or hides the list in a narrow window. */
  toggle(open) {
    const wasOpen = document.body.classList.contains("listing");
    document.body.classList.toggle("listing", open && narrow.matches);
    $("sidebar").inert = narrow.matches && !open;
    $("page").inert = narrow.matches && open;
    $("menu").setAttribute("aria-expanded", String(open));
    if (open && narrow.matches) $("close-list").focus();
    else if (wasOpen) $("menu").focus();
  }

  async refresh() {
    this.#list = (await this.#store?.list()) ?? [];
    this.#draw();
  }

  #draw() {
    const wanted = $("find").value.trim().toLowerCase();
    const found = this.#list.filter(({ title }) => title.toLowerCase().includes(wanted));
    const parts = [...byAge(found)].flatMap(([title, all]) => [
      make("h2", {}, title),
      make("ul", {}, ...all.map((facts) => this.#row(facts))),
    ]);
    const none = wanted ? `No conversations match “${wanted}”.` : "Your conversations will be listed here.";
    $("conversations").replaceChildren(...(parts.length > 0 ? parts : [make("p", { className: "faint" }, none)]));
    $("find").hidden = this.#list.length < 5 && !wanted;
  }

  #row(facts) {
    const open = make("button", { type: "button", className: "title", onclick: () => this.#load(facts.id) }, facts.title);
    if (facts.id === this.#chat.conversation.id) open.setAttribute("aria-current", "true");
    const remove = iconButton("trash", `Delete “${facts.title}”`, () => this.#remove(facts));
    return make("li", {}, open, remove);
  }

  async #load(id) {
    const kept = await this.#store.load(id);
    if (!kept) return this.refresh();
    this.#open(new Conversation(kept.facts, kept.messages));
  }

  /** Opens a conversation as the store returns it, without showing it. */
  openKept({ facts, messages }) {
    this.#chat.open(new Conversation(facts, messages));
  }

  #open(conversation) {
    this.toggle(false);
    this.#chat.open(conversation);
    this.#opened();
  }

  async #remove({ id, title }) {
    const current = this.#chat.conversation.id === id;
    if (current) this.#chat.begin();
    const kept = await this.#store.remove(id);
    await this.refresh();
    $("fresh").focus();
    toast(`Deleted “${title}”.`, "Undo", async () => {
      await this.#store.restore(kept);
      if (current) await this.#load(id);
      await this.refresh();
    });
  }

  /** Another tab has changed a conversation. */
  async changedElsewhere(id) {
    await this.refresh();
    if (id !== this.#chat.conversation.id || this.#chat.answering) return;
    const kept = await this.#store.load(id);
    // The versions on screen stay selected: the other tab may show others.
    if (kept) this.#chat.merge(kept.messages);
  }
}

/** The conversations by their age, in the same order. */
function byAge(list) {
  const groups = new Map();
  for (const facts of list) {
    const key = age(facts.updated);
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(facts);
  }
  return groups;
}
